"""The errors of polyvec: each says what was got, what was expected and what to do.

Every error that a user can cause derives from `PolyvecError`; its `exit_code` is what the command line returns.
"""

from __future__ import annotations


class PolyvecError(Exception):
    """Base of all errors that polyvec raises on purpose."""

    exit_code = 1


class InputError(PolyvecError, ValueError):
    """Bad input or usage: a missing file, a malformed line, an unknown name, a wrong parameter."""

    exit_code = 2


class MissingPackageError(InputError):
    """An optional package is needed; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed. Do: pip install 'polyvec[{extra}]'."
        )
