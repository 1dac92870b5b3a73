"""Pictures through a network: decoded and computed ahead in threads, in order, equal ones once."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from embedders.base import Batch, Encoder, Matrix, Progress, Vectors, silent
from embedders.data import Images, Rejected
from embedders.errors import InputError
from embedders.image import compiled as compiling
from embedders.image import layers
from embedders.image.backbones import Preprocessing
from embedders.image.decode import DecodeError, decode
from embedders.image.fused import has_fused, is_fused
from embedders.image.labels import relabelled
from embedders.image.precision import resolve_device
from embedders.image.prefetch import ahead, workers
from embedders.image.torchvision_ops import import_torch
from embedders.torch_threads import torch_threads

if TYPE_CHECKING:
    import torch
    from torch import nn

    from embedders.image.cnn import Cnn

STEP = 4
"""Pictures that go through the network together on a CPU core: few enough for its cache, enough to keep it busy."""
TAUGHT = "taught"
"""What `CnnEncoder.taught` is called among the arrays."""
KEPT = 16_384
"""Vectors kept for pictures with the same digest that come later."""
_GPU = threading.Lock()


Outcome = tuple[Matrix, str] | DecodeError


@dataclass(frozen=True, eq=False)
class CnnEncoder(Encoder[Images]):
    """A network without classifier. weights: its arrays by name, float32. taught: of `labels.taught`.

    `mode` also keeps what a saved network needs: the preprocessing, the width, and the precision, so that rows added
    later on another machine stay comparable. Its "network" says how the network ran last: fused, compiled or plain.
    """

    recipe: Cnn
    weights: Mapping[str, NDArray[Any]]
    taught: NDArray[np.uint64] = field(default_factory=lambda: np.empty((0, 2), np.uint64), kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", dict(self.mode))  # its own: how the network runs is known once it is built

    @property
    def dim(self) -> int:
        return int(self.mode["dim"])

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        return {**self.weights, TAUGHT: self.taught} if len(self.taught) else self.weights

    def outdated(self, data: Images) -> str:
        changed = relabelled(self.taught, data) if len(self.taught) else 0
        return f"{changed:,} of the pictures it learned from have another label" if changed else ""

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Size, crop, mean and spread of the pictures the network was trained on."""
        return Preprocessing.parse(self.mode["preprocessing"])

    @cached_property
    def _scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and spread of a row of pixels: (3 * crop,) each."""
        torch, look = import_torch("The embedder 'cnn'"), self.preprocessing
        mean, std = (torch.tensor(value * look.crop, device=self._device) for value in (look.mean, look.std))
        return mean, std

    @cached_property
    def _device(self) -> str:
        return resolve_device(self.recipe.device)

    @cached_property
    def _network(self) -> nn.Module:
        """The module, built when it is first needed; a frozen dataclass lets `cached_property` keep it.

        Raises
        ------
        InputError : in bfloat16, where rounding differs, it ran fused before and cannot here.
        """
        here = self._device == "cpu"
        before = self.mode.get("network") if self.mode["precision"] == "bf16" else None
        network = self._built(batch=STEP if here and before != "plain" else 0)
        ran = "fused" if has_fused(getattr(network, "body", network)) else "plain"
        if here and before == "fused" != ran:
            raise InputError(
                f"Got a network {self.recipe.backbone!r} that ran in bf16 with fused convolutions, which this torch cannot do: rows added now would not be comparable. Install a torch with oneDNN, or set precision: fp32."
            )
        self._note(ran)
        return network

    def ready(self) -> Self:
        """With its network built, so that `mode` says how it runs."""
        self._network  # noqa: B018
        return self

    def _note(self, network: str) -> None:
        """Keep for the manifest how the network runs."""
        assert isinstance(self.mode, dict)
        self.mode["network"] = network

    @cached_property
    def _unfused(self) -> nn.Module:
        """The same of torch's own operations, for `torch.compile` to fuse."""
        return self._built(batch=0)

    def _built(self, *, batch: int) -> nn.Module:
        bf16 = self.mode["precision"] == "bf16"
        recipe, look = self.recipe, self.preprocessing
        with torch_threads(1):  # many small steps: threads would only wait for each other
            network = layers.rebuild(
                recipe.backbone, self.weights, look, bf16=bf16, pooling=recipe.pooling, batch=batch
            )
        return network.to(self._device)

    def encode(self, data: Images, *, progress: Progress = silent) -> Iterator[Batch]:
        """Vectors of the pictures, at most `batch_size` at a time; a picture that cannot be decoded is rejected.

        Each thread decodes a few pictures and runs them through the network by itself, on one core: two to three times
        as fast as one large batch over all cores (whose layers leave the cache), no core waits for another, and on a
        CPU a row's bits depend neither on `threads` nor on `batch_size`.
        """
        size, threads = self.recipe.batch_size, workers(self.recipe.threads)
        step = STEP if self._device == "cpu" else size
        network = self._ready(len(data))
        source = sources(data.digests)
        rows = [row for row in range(len(data)) if source[row] == row]
        stream = ahead(
            partial(self._outcomes, data, network, step),
            [rows[first : first + step] for first in range(0, len(rows), step)],
            threads=threads,
            window=2 * max(threads, size // step),
            initializer=_one_torch_thread,
        )
        with torch_threads(), closing(stream):
            outcomes = self._shared(data, network, source, chain.from_iterable(stream))
            for first in range(0, len(data), size):
                last = min(first + size, len(data))
                batch = self._batch(data, list(zip(range(first, last), islice(outcomes, size), strict=True)))
                progress(last, len(data), "images")
                yield batch

    def _shared(
        self, data: Images, network: nn.Module, source: Sequence[int], computed: Iterator[Outcome]
    ) -> Iterator[Outcome]:
        """The outcome of every row: its own, or that of the row with the same digest, if it still is of these bytes."""
        uses, kept = Counter(source), dict[int, Outcome]()
        for row, first in enumerate(source):
            found = next(computed) if first == row else kept.pop(first)
            uses[first] -= 1
            if uses[first]:
                kept[first] = found
            if first != row and (isinstance(found, DecodeError) or found[1] != data.digests[row]):
                [found] = self._outcomes(
                    data, network, STEP, [row]
                )  # the other file failed, or changed since it was looked at
            yield found

    def _batch(self, data: Images, outcomes: Sequence[tuple[int, Outcome]]) -> Batch:
        good = [(row, found) for row, found in outcomes if not isinstance(found, DecodeError)]
        matrix = np.stack([vector for _, (vector, _) in good]) if good else np.empty((0, self.dim), np.float32)
        return Batch(
            Vectors(self.entity, [data.ids[row] for row, _ in good], matrix),
            [digest for _, (_, digest) in good],
            rejected=tuple(
                Rejected(data.ids[row], data.location(row), error.code, str(error))
                for row, error in outcomes
                if isinstance(error, DecodeError)
            ),
        )

    def _outcomes(self, data: Images, network: nn.Module, step: int, rows: Sequence[int]) -> list[Outcome]:
        """The vector (dim,) of each row with the digest of the bytes that it is of, or why there is none.

        A file may have changed since the dataset was looked at: a vector must not stand under another content's digest.
        The network always gets `step` pictures, some black.
        """
        look, limit = self.preprocessing, self.recipe.pixel_limit
        pixels = np.zeros((step, look.crop, look.crop, 3), np.uint8)
        errors: dict[int, DecodeError] = {}
        digests = [""] * len(rows)
        for i, row in enumerate(rows):
            try:
                content = data.read(row)
                digests[i] = hashlib.sha256(content).hexdigest()
                pixels[i] = decode(
                    data.location(row),
                    content,
                    short_side=look.short_side,
                    crop=look.crop,
                    interpolation=look.interpolation,
                    pixel_limit=limit,
                )
            except DecodeError as error:
                errors[i] = error
        if len(errors) == len(rows):
            return list(errors.values())
        matrix = self._forward(network, pixels)
        return [errors[i] if i in errors else (matrix[i], digests[i]) for i in range(len(rows))]

    def _forward(self, network: nn.Module, pixels: NDArray[np.uint8]) -> Matrix:
        """(n, crop, crop, 3) uint8 -> (n, dim) float32. Permuting gives channels_last, the fast layout of convolutions.

        A row of pixels at a time is ten times as fast as three numbers at a time.
        """
        torch = import_torch("The embedder 'cnn'")
        device = self._device
        with nullcontext() if device == "cpu" else _one_on_gpu(), torch.inference_mode():
            rows = torch.from_numpy(pixels).to(device).flatten(2).to(torch.float32)
            mean, std = self._scale
            x = rows.sub_(mean).div_(std).view(pixels.shape).permute(0, 3, 1, 2)
            found = self._features(network, x).float()
            if self.recipe.normalize:
                found = torch.nn.functional.normalize(found)
            matrix: Matrix = found.cpu().numpy()
            return matrix

    def _features(self, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
        import torch

        with (
            torch.inference_mode(),
            torch.autocast(x.device.type, torch.bfloat16, enabled=self.mode["precision"] == "bf16"),
        ):
            features: torch.Tensor = network(x)
            return features

    def _ready(self, pictures: int) -> nn.Module:
        """The network to run on so many pictures, compiled where that pays."""
        network = self._network
        if self._device != "cpu" or not compiling.pays(
            self.recipe.compile, pictures, fused=is_fused(getattr(network, "body", network))
        ):
            return network
        import torch

        look = self.preprocessing
        black = torch.zeros(STEP, look.crop, look.crop, 3).permute(0, 3, 1, 2)
        with torch_threads(1):
            found = compiling.compiled(self._unfused, black, self._features)
            if found is self._unfused:  # it could not be compiled
                return network
            forced = self.recipe.compile is True
            if forced or compiling.faster(found, network, black, self._features):
                self._note("compiled")
                return found
        return network


def sources(digests: Sequence[str], most: int = KEPT) -> list[int]:
    """For each row the row whose vector it gets: the first with its digest, or itself ("" is no digest).

    most : vectors that may be kept at a time for rows to come; beyond it a picture is computed again.

    >>> sources(["a", "b", "a", "", "", "a"]), sources(["a", "b", "b", "a"], most=1)
    ([0, 1, 0, 3, 4, 0], [0, 1, 2, 0])
    """
    last = {digest: row for row, digest in enumerate(digests)}
    kept: dict[str, int] = {}
    found = []
    for row, digest in enumerate(digests):
        found.append(kept.get(digest, row))
        if digest and last[digest] == row:
            kept.pop(digest, None)
        elif digest and digest not in kept and len(kept) < most:
            kept[digest] = row
    return found


def _one_torch_thread() -> None:
    import_torch("The embedder 'cnn'").set_num_threads(1)


@contextmanager
def _one_on_gpu() -> Iterator[None]:
    """One batch on the GPU at a time, in true float32 where float32 is asked for."""
    import torch

    with _GPU, torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield
