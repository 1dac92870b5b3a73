"""What can go wrong in the store."""

from __future__ import annotations

import re

from embedders.errors import InputError, PolyvecError

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class StoreError(PolyvecError):
    """Base of the store's errors."""


class NotFoundError(StoreError, InputError):
    """A space, a version or a row was asked for that the store does not hold."""

    exit_code = 2


class NotWritableError(StoreError, InputError):
    """The store's folder cannot be made or written."""

    exit_code = 2


class FullError(StoreError):
    """The disk that the store lies on is full."""


class UnreachableError(StoreError, InputError):
    """The object store does not answer, or refuses."""

    exit_code = 2


class BusyError(StoreError):
    """Another run is writing the same space."""


class DamagedError(StoreError):
    """A file of a version is missing, truncated or not what its manifest says."""


class AccountingError(StoreError):
    """Rows that went in and rows that came out do not add up; nothing was committed."""


class QuarantinedError(StoreError, InputError):
    """Every row was rejected, so there is no version to commit."""

    exit_code = 2


class MovedError(StoreError):
    """A release's name was moved by somebody else in between; nothing was changed."""


class ReplacedError(StoreError, InputError):
    """A version of another dimension or similarity would come under the same space name."""

    exit_code = 2


def brief(error: BaseException) -> str:
    """What an error of delta-rs says, on one line: without the colours and the backtrace of Rust."""
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).split("\n   0: ")[0].splitlines()]
    text = " ".join(line for line in lines if line).rstrip(".")
    return text if len(text) <= 200 else text[:197] + "..."
