"""Embedders by name, through the entry-point group `polyvec.embedders`; ours use the same door as anybody's."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from embedders.base import Embedder
from embedders.errors import InputError, MissingPackageError, PolyvecError

GROUP = "polyvec.embedders"


@cache
def known() -> dict[str, EntryPoint]:
    """The installed embedders, name to entry point, in alphabetical order."""
    found = entry_points(group=GROUP)
    if not found:
        raise PolyvecError(
            f"No embedder is installed: the entry-point group {GROUP!r} is empty. Install polyvec itself (pip install -e .), do not only copy it."
        )
    return {point.name: point for point in sorted(found, key=lambda p: p.name)}


def embedder_class(kind: str) -> type[Embedder[Any]]:
    """The recipe class registered as `kind`.

    Raises
    ------
    InputError : no such embedder; the message lists those that are installed.
    """
    if kind not in known():
        raise InputError(f"Got embedder {kind!r}; installed are: {', '.join(known())}.")
    try:
        found = known()[kind].load()
    except MissingPackageError:
        raise
    except Exception as error:
        point = known()[kind]
        package = f" of the package {point.dist.name}" if point.dist else ""
        raise InputError(
            f"Got embedder {kind!r}, whose entry point {point.value!r}{package} cannot be imported "
            f"({type(error).__name__}: {error}). Mend or reinstall that package."
        ) from error
    if not (isinstance(found, type) and issubclass(found, Embedder)) or found.kind != kind:
        raise InputError(
            f"The entry point {kind!r} gives {found!r}; expected an Embedder class whose kind is {kind!r}. Mend the package that declares it."
        )
    return found
