"""Small facts that take seconds to find out, kept between processes in the user's cache folder; harmless to delete."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path


def of_package(package: str, fact: str, find: Callable[[], str]) -> str:
    """A fact about an installed package, found by `find` once for each state of its files.

    package : as it is imported; it is not, where the fact is known. Planning an unchanged run then needs no torchvision,
        whose import takes seconds.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return find()
    try:
        stamp = f"{version(package)} {Path(spec.origin).stat().st_mtime_ns} {spec.origin}"
        file = _folder() / f"{package}.json"
    except (PackageNotFoundError, OSError, RuntimeError):  # RuntimeError: no home folder
        return find()
    known = _read(file, stamp)
    if fact not in known:
        found = find()
        _write(file, {"stamp": stamp, "facts": {**known, fact: found}})
        return found
    return known[fact]


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "polyvec"


def _read(file: Path, stamp: str) -> dict[str, str]:
    """What is known of the package as it is; nothing where the file is absent, damaged, or of other files."""
    with suppress(OSError, ValueError):
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, dict) and found.get("stamp") == stamp and isinstance(found.get("facts"), dict):
            return {key: value for key, value in found["facts"].items() if isinstance(value, str)}
    return {}


def _write(file: Path, content: Mapping[str, object]) -> None:
    """Written whole: another process may read it now. A folder that cannot be written costs time, nothing else."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(f".{os.getpid()}.tmp")
        new.write_text(json.dumps(content, indent=1), encoding="utf-8")
        new.replace(file)
