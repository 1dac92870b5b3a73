"""Spaces projected so that vectors of one entity meet and those of others part: CLIP's objective, on frozen vectors.

Source: A. Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021
(arXiv:2103.00020), figure 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from embedders.base import Encoder, Progress, Threads, silent
from embedders.errors import MissingPackageError
from embedders.fusion.shared import Projection, Shared, mode_of, pairs_of
from embedders.kernels.threads import cores
from embedders.views import Views

if TYPE_CHECKING:
    from embedders.fusion.training import Trained


class Contrastive(Projection):
    """A projection head for each space, trained with InfoNCE on the entities that spaces have in common."""

    kind: ClassVar[str] = "contrastive"
    encoder: ClassVar[type] = Shared

    dim: PositiveInt = Field(128, description="numbers in a vector, which has length 1")
    hidden: NonNegativeInt = Field(0, description="width of a hidden layer (ReLU) in each head; 0: linear")
    epochs: PositiveInt = Field(200, description="passes over the shared entities, at most")
    patience: PositiveInt = Field(
        10, description="passes without a lower loss of the held-out entities that end training"
    )
    held_out: float = Field(
        0.1, ge=0, le=0.5, description="share of the shared entities that say when to end; 0: all epochs are run"
    )
    batch: int = Field(512, ge=2, description="entities of a step; each is told from all others of it")
    lr: PositiveFloat = Field(0.002, description="learning rate (AdamW)")
    weight_decay: NonNegativeFloat = Field(0.1, description="of the heads' weights, as in AdamW")
    noise: NonNegativeFloat = Field(0.2, description="normal noise on the vectors in training, in their mean length")
    temperature: PositiveFloat = Field(0.07, le=1, description="at first; it is learned")
    threads: Threads = 1  # the products are small: a second thread mostly waits

    def fit(self, data: Views, *, start: Encoder[Views] | None = None, progress: Progress = silent) -> Shared:
        """Train the heads.

        Raises
        ------
        InputError : a space shares too few ids with the others, or has equal vectors.
        MissingPackageError : torch is not installed.
        """
        try:
            import torch  # noqa: F401
        except ModuleNotFoundError as error:
            raise MissingPackageError("torch", "fusion", f"The embedder {self.kind!r}") from error
        from embedders.fusion.training import train
        from embedders.torch_threads import torch_threads

        data.asked(self.rows)
        pairs = pairs_of(data)
        with torch_threads(self.threads or cores()):
            trained = train(self, data, pairs, progress)
        shared = {f"{a}+{b}": n for (a, b), n in pairs.items()}
        return Shared(self, trained.heads, mode=mode_of(data, shared=shared, **self._told(trained)))

    def _told(self, trained: Trained) -> dict[str, Any]:
        told = {"epochs": trained.epochs, "loss": trained.loss, "held_out_loss": trained.held_out_loss}
        told |= {"temperature": trained.temperature}
        return {"precision": "fp32", "threads": self.threads or cores(), **told}
