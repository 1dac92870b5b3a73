"""What is left to do for an entry of the pipeline file, and doing it: read, learn, encode, commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from embedders.base import Batch, Embedder, Encoder, Progress, Sides
from flows import starts
from flows.fusion import read_views
from flows.made import Made
from flows.pipeline import Pipeline
from flows.progress import board
from flows.starts import Beginning, Folded
from storage.incremental import basis
from storage.inputs.specs import Scan
from storage.reuse import NOTHING, Reuse
from storage.space import Version
from storage.writer import Source, Writer


def read(
    pipeline: Pipeline,
    name: str,
    recipe: Embedder[Any],
    scan: Scan,
    upstream: Mapping[str, Version],
    progress: Progress,
) -> Any:
    """The data that an entry is learned from."""
    if pipeline.spec(name).fuse:
        return read_views(recipe, upstream)
    return pipeline.dataset(name).read(scan, recipe.data, cache=pipeline.vectors.paths.cache, progress=progress)


def commit(
    pipeline: Pipeline, name: str, writers: Mapping[str, Writer], before: Made | None, data: Any, source: Source,
    upstream: Mapping[str, Version], started: float, force: bool, replacing: bool, progress: Progress,
) -> dict[str, Version]:  # fmt: skip
    """Do what is left to do, and commit it."""
    spec, recipe, say = pipeline.spaces[name], pipeline.recipe(name), board().say
    dataset = pipeline.datasets.get(spec.dataset)
    goes_on = starts.goes_on_from(spec, recipe, before, dataset, source.digest, force=force)

    def begin() -> Beginning:
        first = None if spec.fuse else next(iter(upstream.values()), None)
        return starts.beginning(pipeline, name, recipe, data, first, goes_on, say)

    into = starts.folds_into(spec, recipe, before, dataset, source.digest, force=force)
    folded = starts.folded(name, spec, recipe, data, into, say)
    if pipeline.outputs(name) != (name,):
        return _commit_sides(name, writers, recipe, data, source, begin, folded, started, replacing, progress)
    same = dataset is not None and dataset.holds_out
    work = work_of(writers[name], recipe, data, source, begin, folded, force=force, same=same, progress=progress)
    version = writers[name].commit(
        work.source, work.encoder, work.batches, work.encoder.excluded(data), started,
        reuse=work.reuse, encoder_of=work.encoder_of, replace=replacing,
    )  # fmt: skip
    if work.clear is not None:
        work.clear()
    return {name: version}


def _commit_sides(
    name: str, writers: Mapping[str, Writer], recipe: Embedder[Any], data: Any, source: Source,
    begin: Callable[[], Beginning], folded: Folded | None, started: float, replacing: bool, progress: Progress,
) -> dict[str, Version]:  # fmt: skip
    """Learn all sides together, and commit each to its space.

    A run that is killed between two commits leaves versions of two trainings: the next one sees that and learns anew.
    """
    beginning = Beginning() if folded else begin()
    encoder = folded.encoder if folded else recipe.fit(data, start=beginning.encoder, progress=progress)
    assert isinstance(encoder, Sides), f"{recipe.kind}: got {type(encoder)} from fit; expected Sides"
    versions = {}
    for side, part in encoder.sides.items():
        space = f"{name}.{side}"
        warm = beginning.warm.versions[space].number if beginning.warm else None
        of_side = replace(
            source, side=side, rows=part.rows(data), rejected=getattr(data, "rejected", ()), warm_start=warm,
            folded_into=folded.trained[space] if folded else None,
        )  # fmt: skip
        versions[space] = writers[space].commit(
            of_side, part, part.encode(data), part.excluded(data), started, replace=replacing
        )
    return versions


@dataclass(frozen=True)
class Work:
    """What is left to do for a version. encoder_of: the version that has this encoder already."""

    source: Source
    encoder: Encoder[Any]
    batches: Iterator[Batch]
    reuse: Reuse = NOTHING
    encoder_of: Version | None = None
    clear: Callable[[], None] | None = None


def work_of(
    writer: Writer, recipe: Embedder[Any], data: Any, source: Source, begin: Callable[[], Beginning],
    folded: Folded | None = None, *, force: bool, same: bool = False, progress: Progress,
) -> Work:  # fmt: skip
    """What is left to do for one space. same : the encoder stands for this dataset alone, so another one is learned anew."""
    source = replace(source, rows=len(data), rejected=getattr(data, "rejected", ()))
    if folded is not None:
        trained = folded.trained[writer.space.name]
        source = replace(source, rows=folded.encoder.rows(data), folded_into=trained)
        return Work(source, folded.encoder, folded.encoder.encode(data, progress=progress))
    if not recipe.inductive:
        start = begin()
        encoder = recipe.fit(data, start=start.encoder, progress=progress)
        if (start.encoder is None or start.warm) and (warning := starts.few_tokens(writer.space.name, encoder, data)):
            board().say(warning)
        source = replace(source, rows=encoder.rows(data), warm_start=None if start.warm is None else start.warm.number)
        return Work(source, encoder, encoder.encode(data, progress=progress))
    contents = [digest for digest in data.digests if digest]
    source = replace(source, duplicates=len(contents) - len(set(contents)))
    found = basis(writer, recipe, source.digest, source.made_from, force=force, same=same, say=board().say)
    if found.learned is not None and (why := found.learned.outdated(data)):
        board().say(f"{writer.space.name}: learned anew, as {why}")
        found = replace(found, version=None, learned=None)
    options: dict[str, Any] = {"checkpoint": found.unfinished.checkpoint} if recipe.checkpoints else {}
    encoder = found.encoder(recipe, lambda: recipe.fit(data, start=begin().encoder, progress=progress, **options))
    reuse = found.reuse(data, encoder, board().say)
    if reuse.resumed:
        board().say(f"{writer.space.name}: {reuse.resumed:,} rows were embedded by a run that was cut off")
    rest = encoder.encode(data.select(reuse.fresh), progress=progress) if len(reuse.fresh) else ()
    batches = found.unfinished.keep(rest, encoder, learned=found.version is None)
    return Work(source, encoder, batches, reuse, found.version, found.unfinished.clear)
