"""Arrays held in memory up to a bound, past it in a temporary file that nobody else sees and no crash leaves behind."""

from __future__ import annotations

import errno
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedders.errors import InputError, PolyvecError


@dataclass(frozen=True, eq=False)
class Held:
    """An array in a `Spill`. array: the array itself, or None where it lies in the file from `offset` on."""

    store: Spill
    dtype: np.dtype[Any]
    size: int
    array: NDArray[Any] | None
    offset: int = 0

    def read(self, first: int = 0, last: int | None = None) -> NDArray[Any]:
        """Numbers first:last; from the file they are read anew at each call."""
        last = self.size if last is None else last
        if self.array is not None:
            return self.array[first:last]
        return self.store.read(self.dtype, self.offset + first * self.dtype.itemsize, last - first)


class Spill:
    """A place for arrays: the first `limit` bytes of them stay in memory, the others go to a file.

    Parameters
    ----------
    limit : bytes.
    folder : where the file is made when it is needed; None is the system's temporary folder. The file has no name (on
        Windows: is deleted with its last handle), so that its room is free again however the process ends.

    Raises
    ------
    InputError : the folder is missing or not writable.
    PolyvecError : the disk is full, or fails.
    """

    def __init__(self, limit: int, folder: Path | None = None) -> None:
        self.limit, self.folder = limit, Path(folder or tempfile.gettempdir())
        self.held = self.spilled = 0
        self._lock = threading.Lock()
        try:
            self._file = tempfile.TemporaryFile(dir=self.folder, buffering=0)
        except OSError as error:
            raise InputError(
                f"Got {str(self.folder)!r} for temporary files, where none can be made ({error.strerror}). "
                "Name another folder with scratch."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file's room back; arrays that lay in it can no longer be read."""
        self._file.close()

    def put(self, array: NDArray[Any]) -> Held:
        """Keep a one-dimensional array; what is kept is a copy."""
        with self._lock:
            if self.held + array.nbytes <= self.limit:
                self.held += array.nbytes
                offset = None
            else:
                offset, self.spilled = self.spilled, self.spilled + array.nbytes
                self._write(offset, np.ascontiguousarray(array).view(np.uint8).data)
        if offset is None:
            return Held(self, array.dtype, len(array), array.copy())
        return Held(self, array.dtype, len(array), None, offset)

    def read(self, dtype: np.dtype[Any], offset: int, size: int) -> NDArray[Any]:
        """`size` numbers of the file."""
        array = np.empty(size, dtype)
        left = array.view(np.uint8).data
        with self._lock:
            self._file.seek(offset)
            while left:
                got = self._file.readinto(left)
                if not got:
                    raise PolyvecError(f"Got the end of a temporary file in {str(self.folder)!r} too early.")
                left = left[got:]
        return array

    def _write(self, offset: int, left: memoryview) -> None:
        self._file.seek(offset)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            reason = "no room left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
            raise PolyvecError(
                f"Got {reason} in {str(self.folder)!r} after {self.spilled / 2**20:,.0f} MiB of temporary data. "
                "Free some, name a larger folder with scratch, or raise memory."
            ) from error
