"""Paths in an object store, with as much of `pathlib.Path` as the store uses. pyarrow and delta-rs do the work.

Settings come from the environment, by their standard names: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN,
AWS_REGION (or AWS_DEFAULT_REGION) and, for servers other than AWS', AWS_ENDPOINT_URL.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from embedders.errors import InputError
from storage.errors import UnreachableError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


@dataclass(frozen=True, order=True)
class Bucket:
    """A place in an object store. key: bucket/prefix/name, without s3:// and without a slash at the end.

    >>> folder = Bucket.parse("s3://mine/vectors/") / "words"
    >>> str(folder), folder.name, str(folder.parent)
    ('s3://mine/vectors/words', 'words', 's3://mine/vectors')
    """

    key: str

    @classmethod
    def parse(cls, address: str) -> Bucket:
        """The place of an s3:// address.

        Raises
        ------
        InputError : an address of another kind, or without a bucket.
        """
        scheme, _, rest = address.partition("://")
        key = rest.rstrip("/")
        if scheme != "s3" or not key or any(part in {"", ".", ".."} for part in key.split("/")):
            raise InputError(f"Got the store {address!r}; expected a folder, or s3://bucket/prefix.")
        return cls(key)

    def __str__(self) -> str:
        return f"s3://{self.key}"

    def __truediv__(self, name: str) -> Bucket:
        return Bucket(f"{self.key}/{name}")

    @property
    def name(self) -> str:
        return PurePosixPath(self.key).name

    @property
    def parent(self) -> Bucket:
        return Bucket(str(PurePosixPath(self.key).parent))

    def relative_to(self, other: Bucket) -> PurePosixPath:
        return PurePosixPath(self.key).relative_to(other.key)

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: an object store has no folders."""

    def is_dir(self) -> bool:
        return self._kind() == "Directory"

    def is_file(self) -> bool:
        return self._kind() == "File"

    def _kind(self) -> str:
        with self._asking():
            kind: str = _files().get_file_info(self.key).type.name
        return kind

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UnreachableError(
                f"Got the store {self}, which does not answer as it should ({error}). Check the bucket, the network, and "
                "AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            ) from error

    def iterdir(self) -> Iterator[Bucket]:
        from pyarrow.fs import FileSelector

        with self._asking():
            listed = _files().get_file_info(FileSelector(self.key, allow_not_found=True))
        yield from (Bucket(found.path) for found in sorted(listed, key=lambda f: f.path))

    def walk(self) -> Iterator[tuple[Bucket, int, float]]:
        """All objects below it, with size and time of the last change."""
        from pyarrow.fs import FileSelector

        with self._asking():
            listed = _files().get_file_info(FileSelector(self.key, allow_not_found=True, recursive=True))
        for found in sorted(listed, key=lambda f: f.path):
            if found.is_file:
                yield Bucket(found.path), found.size, found.mtime_ns / 1e9

    def source(self) -> Any:
        """Random access, as pyarrow reads it."""
        return _files().open_input_file(self.key)

    def read_bytes(self) -> bytes:
        with self._asking(), _files().open_input_stream(self.key) as stream:
            data: bytes = stream.readall()
        return data

    def write_bytes(self, data: bytes) -> None:
        with self.open("xb") as file:
            file.write(data)

    @contextmanager
    def open(self, mode: str, buffering: int = -1) -> Iterator[BinaryIO]:
        """A whole object in memory to read, or a new one, which appears when it is closed without an error."""
        if mode == "rb":
            yield io.BytesIO(self.read_bytes())
            return
        held = io.BytesIO()  # a part has a few tens of megabytes; a stream would publish what an error cut off
        yield held
        with self._asking(), _files().open_output_stream(self.key) as stream:
            stream.write(held.getbuffer())

    def unlink(self, missing_ok: bool = False) -> None:
        if not missing_ok or self.is_file():
            _files().delete_file(self.key)

    def remove(self) -> None:
        """Delete an object, or all below a prefix; what is not there is no error."""
        kind = self._kind()
        if kind == "Directory":
            _files().delete_dir(self.key)
        elif kind == "File":
            _files().delete_file(self.key)

    @property
    def options(self) -> dict[str, str]:
        """delta-rs' storage options; it takes the rest from the environment by itself."""
        return {"allow_http": "true"} if endpoint().startswith("http://") else {}


def endpoint() -> str:
    """The server, where it is not AWS'."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


@cache
def _files() -> FileSystem:
    from pyarrow.fs import S3FileSystem

    # opened late, a small object is one request; in the foreground, an open stream cannot hang the interpreter's exit
    return S3FileSystem(endpoint_override=endpoint() or None, allow_delayed_open=True, background_writes=False)
