"""Train the network of a `cnn` recipe on its dataset, as `train:` says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedders.base import Encoder, Progress
from embedders.data import Images
from embedders.errors import InputError
from embedders.image import backbones, layers
from embedders.image.augment import Augmentation
from embedders.image.backbones import Preprocessing
from embedders.image.checkpoint import Checkpoint
from embedders.image.labels import Chosen, chosen, classes, split
from embedders.image.options import Training
from embedders.image.pictures import Pictures
from embedders.image.precision import resolve_device, resolve_precision
from embedders.image.prefetch import workers
from embedders.image.tasks import Labels, SimClr
from embedders.image.training import NEW, Pace, Task, train
from embedders.torch_threads import torch_threads

if TYPE_CHECKING:
    from torch import nn

    from embedders.image.cnn import Cnn

MIB = 1 << 20


def begun(recipe: Cnn, start: Encoder[Any] | None) -> tuple[nn.Module, Preprocessing]:
    """The network that a recipe names, or that of the encoder it starts from, in float32 on the CPU.

    Raises
    ------
    InputError : the start is no `cnn`, or of another backbone or size; or as `backbones.build`.
    """
    if start is None:
        return backbones.build(recipe.backbone, recipe.weights, recipe.seed, recipe.pooling, recipe.size)
    theirs: Any = start.recipe
    encoder: Any = start
    if theirs.kind != recipe.kind:
        raise InputError(
            f"Got a start of kind {theirs.kind!r}; 'cnn' goes on from a space of 'cnn'. Choose another start, or leave it out."
        )
    if (theirs.backbone, theirs.size, theirs.pooling) != (recipe.backbone, recipe.size, recipe.pooling):
        raise InputError(
            f"Got backbone {recipe.backbone!r} of size {recipe.size}, pooling {recipe.pooling}, and a start of {theirs.backbone!r} of size {theirs.size}, pooling {theirs.pooling}; expected the same. Set backbone, size and pooling as they are there."
        )
    look = Preprocessing.parse(start.mode["preprocessing"])
    return layers.rebuild(recipe.backbone, encoder.weights, look, bf16=False, pooling=recipe.pooling), look


def tuned(
    recipe: Cnn,
    options: Training,
    data: Images,
    network: nn.Module,
    look: Preprocessing,
    *,
    pretrained: bool,
    checkpoint: Path | None,
    progress: Progress,
) -> tuple[nn.Module, dict[str, Any]]:
    """The network, trained, and what the manifest should know of it.

    pretrained : its weights are not random. checkpoint : a folder of this training alone, where it goes on from.

    Raises
    ------
    InputError : there is nothing to learn from, or the learning rate is too high.
    """
    device, threads = resolve_device(recipe.device), workers(recipe.threads)
    bf16 = resolve_precision(recipe.precision, recipe.device) == "bf16"
    found = chosen(data, options)
    with torch_threads(threads):
        network = _made_ready(network, look, options, recipe.seed)
        begins_at = _digest(network)
        network = network.to(device)
        pictures = Pictures(
            data, found.rows, look, pixel_limit=recipe.pixel_limit, threads=threads, memory=options.memory * MIB
        )
        if len(pictures) < 2:
            first = f" The first: {pictures.undecodable[0]}" if pictures.undecodable else ""
            raise InputError(
                f"Got {len(found.rows):,} pictures to learn from, {len(pictures):,} of which can be decoded; expected at least two.{first}"
            )
        task, told = _task(
            recipe, options, network, look, pictures, found, device=device, bf16=bf16, statistics=not pretrained
        )
        about = _about(recipe, begins_at, data, found, pictures, threads)
        history = train(
            task, _pace(options, recipe.seed, pretrained=pretrained), Checkpoint(checkpoint, about),
            device=device, bf16=bf16, threads=threads, progress=progress,
        )  # fmt: skip
    told = {
        "method": options.method,
        **told,
        **found.counts,
        "undecodable": len(pictures.undecodable),
        **history.told(),
    }
    return network.cpu(), told


def _made_ready(network: nn.Module, look: Preprocessing, options: Training, seed: int) -> nn.Module:
    """The network with its linear layer, if one is asked for, in which the chosen layers can learn."""
    import torch

    body = getattr(network, "body", network)
    layers.choose(body, options.layers)
    if options.dim is not None:
        with torch.inference_mode():
            width = body(torch.zeros(1, 3, look.crop, look.crop)).shape[1]
        weight = np.random.default_rng([seed, 4]).normal(0, width**-0.5, (options.dim, width))
        network = layers.added(body, weight.astype(np.float32))
    elif body is not network:
        network.requires_grad_(True)
        layers.choose(body.requires_grad_(False), options.layers)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def _task(
    recipe: Cnn, options: Training, network: nn.Module, look: Preprocessing, pictures: Pictures, found: Chosen,
    *, device: str, bf16: bool, statistics: bool,
) -> tuple[Task, dict[str, Any]]:  # fmt: skip
    import torch

    with torch.inference_mode():
        width = network(torch.zeros(1, 3, look.crop, look.crop, device=device)).shape[1]
    if options.method == "simclr":
        augmentation = _augmentation(options, area=0.2, jitter=0.5, grey=0.2)
        task = SimClr(
            network, width, pictures, look, augmentation,
            temperature=options.temperature, seed=recipe.seed, statistics=statistics, device=device,
        )  # fmt: skip
        return task, {"pictures": len(pictures)}
    names, codes = classes(_labels_of(found, pictures))
    places, seen = split(codes, options.validation, recipe.seed)
    labelled = Labels(
        network, width, pictures, look, _augmentation(options, area=0.5, jitter=0.2, grey=0.0),
        codes=codes, places=places, seen=seen, smoothing=options.smoothing, statistics=statistics, device=device, bf16=bf16,
    )  # fmt: skip
    return labelled, {"pictures": len(places), "validation": len(seen), "classes": len(names)}


def _labels_of(found: Chosen, pictures: Pictures) -> list[str]:
    label = dict(zip(found.rows.tolist(), found.labels or [], strict=True))
    return [label[row] for row in pictures.rows.tolist()]


def _augmentation(options: Training, *, area: float, jitter: float, grey: float) -> Augmentation:
    return Augmentation(
        area if options.crop is None else options.crop,
        options.flip,
        jitter if options.jitter is None else options.jitter,
        grey,
    )


def _pace(options: Training, seed: int, *, pretrained: bool) -> Pace:
    simclr = options.method == "simclr"
    rate = options.learning_rate or (0.0003 if pretrained else 0.003)
    return Pace(
        options.epochs, options.batch_size or (256 if simclr else 64), rate, NEW * rate if pretrained else rate,
        options.weight_decay, options.patience, seed,
    )  # fmt: skip


def _about(recipe: Cnn, begins_at: str, data: Images, found: Chosen, pictures: Pictures, threads: int) -> str:
    """A digest of all that decides what training gives."""
    contents = [data.digests[row] for row in pictures.rows.tolist()]
    labels = None if found.labels is None else _labels_of(found, pictures)
    text = json.dumps([recipe.fingerprint, recipe.device, threads, begins_at, contents, labels])
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(network: nn.Module) -> str:
    hasher = hashlib.sha256()
    for name, array in sorted(layers.state(network).items()):
        hasher.update(name.encode())
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()
