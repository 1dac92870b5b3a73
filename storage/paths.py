"""Where everything of a store lies. All paths are made here.

STORE/<space>/                a Delta table: one space
STORE/<space>/v00007-<run>/   the Parquet parts that version 7 added
STORE/_models/<space>/<fingerprint>-v7-<run>/   the encoder of version 7 and of those that went on from it
STORE/_metrics, _quarantine, _near_duplicates, _releases   Delta tables
STORE/_cache, _locks          safe to delete when nothing runs
STORE/_reports/<run>/         run reports

Of a store in a bucket, `_cache` and `_locks` lie on this machine, in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from embedders.errors import InputError
from storage.places import AnyPath

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # no folder can be called so on Windows
PARTS = re.compile(r"v(\d{5,})-[^/]+")  # the folder of the parts that a version added
MODEL = re.compile(r".+?-v(\d+)-[^/]+")  # the folder of an encoder; the version it was learned for


def check_name(name: str, what: str) -> str:
    """`name`, if it is fit to be a folder's name.

    Raises
    ------
    InputError : it is not.
    """
    if not NAME.fullmatch(name):
        shown = repr(name if len(name) <= 60 else name[:57] + "...")
        raise InputError(
            f"Got the {what} name {shown}; expected 1 to 100 characters of a-z, A-Z, 0-9, '.', '_', '-', "
            "the first a letter or digit. Rename it."
        )
    if DEVICE.fullmatch(name):
        raise InputError(f"Got the {what} name {name!r}, which is a device on Windows; expected another. Rename it.")
    return name


@dataclass(frozen=True)
class Paths:
    """The paths of one store."""

    root: AnyPath

    @property
    def local(self) -> Path:
        """The folder of this machine for caches and locks."""
        if isinstance(self.root, Path):
            return self.root
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return caches / "polyvec" / hashlib.sha256(str(self.root).encode()).hexdigest()[:16]

    def space(self, name: str) -> AnyPath:
        return self.root / check_name(name, "space")

    def parts(self, space: str, version: int, run: str) -> AnyPath:
        return self.space(space) / f"v{version:05d}-{check_name(run, 'run')}"

    def models(self, space: str) -> AnyPath:
        return self.root / "_models" / check_name(space, "space")

    def model(self, space: str, fingerprint: str, version: int, run: str) -> AnyPath:
        return self.models(space) / f"{fingerprint}-v{version}-{check_name(run, 'run')}"

    def lock(self, space: str) -> Path:
        return self.local / "_locks" / f"{check_name(space, 'space')}.lock"

    def unfinished(self, space: str) -> Path:
        """Rows of encodes that were cut off."""
        return self.local / "_cache" / "unfinished" / check_name(space, "space")

    def trials(self, space: str) -> Path:
        """Stores of trials of parameters that go on, or were cut off."""
        return self.local / "_cache" / "trials" / check_name(space, "space")

    def report(self, run: str) -> AnyPath:
        return self.root / "_reports" / check_name(run, "run")

    @property
    def metrics(self) -> AnyPath:
        return self.root / "_metrics"

    @property
    def quarantine(self) -> AnyPath:
        return self.root / "_quarantine"

    @property
    def near_duplicates(self) -> AnyPath:
        return self.root / "_near_duplicates"

    @property
    def releases(self) -> AnyPath:
        return self.root / "_releases"

    @property
    def cache(self) -> Path:
        return self.local / "_cache"
