"""Where everything of a store lies. All paths are made here.

STORE/<space>/                a Delta table: one space
STORE/<space>/v00007-<run>/   the Parquet parts that version 7 added
STORE/_models/<space>/<fingerprint>-v7-<run>/   the encoder of version 7
STORE/_metrics, _quarantine   Delta tables
STORE/_cache, _locks          safe to delete when nothing runs
STORE/_reports/<run>/         run reports
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from embedders.errors import InputError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


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
    return name


@dataclass(frozen=True)
class Paths:
    """The paths of one store."""

    root: Path

    def space(self, name: str) -> Path:
        return self.root / check_name(name, "space")

    def parts(self, space: str, version: int, run: str) -> Path:
        return self.space(space) / f"v{version:05d}-{run}"

    def models(self, space: str) -> Path:
        return self.root / "_models" / check_name(space, "space")

    def model(self, space: str, fingerprint: str, version: int, run: str) -> Path:
        return self.models(space) / f"{fingerprint}-v{version}-{run}"

    def lock(self, space: str) -> Path:
        return self.root / "_locks" / f"{check_name(space, 'space')}.lock"

    def report(self, run: str) -> Path:
        return self.root / "_reports" / run

    @property
    def metrics(self) -> Path:
        return self.root / "_metrics"

    @property
    def quarantine(self) -> Path:
        return self.root / "_quarantine"

    @property
    def cache(self) -> Path:
        return self.root / "_cache"
