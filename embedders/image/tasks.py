"""The two things a network can be trained to do: tell labels apart, or tell pictures apart without labels (SimCLR)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix
from embedders.image.augment import Augmentation, plain
from embedders.image.backbones import Preprocessing
from embedders.image.layers import linear
from embedders.image.pictures import Pictures
from embedders.image.training import forward

if TYPE_CHECKING:
    import torch
    from torch import nn

PROJECTION = 128
"""Width of what SimCLR compares, above the features (Chen et al. 2020)."""
_JUDGED = 128


class Labels:
    """Cross-entropy of a linear classifier above the features.

    codes : (n,) class of each picture. seen : places of the pictures that only `judge` looks at.
    smoothing : share of a label that is spread over all classes (Szegedy et al. 2016).
    """

    def __init__(
        self,
        body: nn.Module,
        width: int,
        pictures: Pictures,
        look: Preprocessing,
        augmentation: Augmentation,
        *,
        codes: NDArray[np.int64],
        places: NDArray[np.int64],
        seen: NDArray[np.int64],
        smoothing: float,
        statistics: bool,
        device: str,
        bf16: bool,
    ) -> None:
        self.body, self.statistics = body, statistics
        # no class is preferred at first; the network below learns from the second step on
        self.head: nn.Module = linear(np.zeros((int(codes.max()) + 1, width), np.float32)).to(device)
        self._pictures, self._look, self._augmentation = pictures, look, augmentation
        self._codes, self._places, self._seen = codes, places, seen
        self._smoothing, self._device, self._bf16 = smoothing, device, bf16

    def __len__(self) -> int:
        return len(self._places)

    def draw(self, places: NDArray[np.int64], rng: np.random.Generator) -> Matrix:
        return self._augmentation.apply(self._pictures.take(self._places[places]), self._look, rng)

    def loss(self, x: torch.Tensor, places: NDArray[np.int64]) -> torch.Tensor:
        return self._cross_entropy(self.head(x), self._places[places])

    def judge(self) -> tuple[float, float] | None:
        import torch

        if not len(self._seen):
            return None
        loss = hits = 0.0
        with torch.no_grad():
            for first in range(0, len(self._seen), _JUDGED):
                places = self._seen[first : first + _JUDGED]
                pixels = plain(self._pictures.take(places), self._look)
                guess = self.head(forward(self.body, pixels, self._device, bf16=self._bf16))
                loss += float(self._cross_entropy(guess, places)) * len(places)
                hits += int((guess.argmax(1).cpu().numpy() == self._codes[places]).sum())
        return loss / len(self._seen), hits / len(self._seen)

    def _cross_entropy(self, guess: torch.Tensor, places: NDArray[np.int64]) -> torch.Tensor:
        import torch

        codes = torch.from_numpy(self._codes[places]).to(self._device)
        return torch.nn.functional.cross_entropy(guess, codes, label_smoothing=self._smoothing)


class SimClr:
    """Two pieces of one picture are alike, pieces of others are not (NT-Xent, Chen et al. 2020, arXiv:2002.05709, eq. 1)."""

    def __init__(
        self,
        body: nn.Module,
        width: int,
        pictures: Pictures,
        look: Preprocessing,
        augmentation: Augmentation,
        *,
        temperature: float,
        seed: int,
        statistics: bool,
        device: str,
    ) -> None:
        from torch import nn

        rng = np.random.default_rng([seed, 3])
        hidden, out = (
            (rng.normal(0, (2 / width) ** 0.5, (to, width))).astype(np.float32) for to in (width, PROJECTION)
        )
        self.body, self.statistics = body, statistics
        self.head: nn.Module = nn.Sequential(linear(hidden), nn.ReLU(), linear(out)).to(device)
        self._pictures, self._look, self._augmentation, self._temperature = pictures, look, augmentation, temperature

    def __len__(self) -> int:
        return len(self._pictures)

    def draw(self, places: NDArray[np.int64], rng: np.random.Generator) -> Matrix:
        found = self._pictures.take(places)
        return np.concatenate([self._augmentation.apply(found, self._look, rng) for _ in range(2)])

    def loss(self, x: torch.Tensor, places: NDArray[np.int64]) -> torch.Tensor:
        return nt_xent(self.head(x), self._temperature)

    def judge(self) -> tuple[float, float] | None:
        return None


def nt_xent(rows: torch.Tensor, temperature: float) -> torch.Tensor:
    """The normalised temperature-scaled cross-entropy of (2n, d), where rows i and n + i are of one picture."""
    import torch

    z = torch.nn.functional.normalize(rows, dim=1)
    likeness = (z @ z.T / temperature).fill_diagonal_(float("-inf"))
    partners = torch.arange(len(rows), device=rows.device).roll(len(rows) // 2)
    return torch.nn.functional.cross_entropy(likeness, partners)
