"""Paths in an object store, with as much of `pathlib.Path` as the store uses. pyarrow and delta-rs do the work.

Settings come from the environment, by their standard names: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN,
AWS_REGION (or AWS_DEFAULT_REGION) and, for servers other than AWS', AWS_ENDPOINT_URL.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from embedders.errors import InputError
from storage.errors import UnreachableError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

PIECE = 8 << 20  # bytes of an object that are held at once where it is copied
PATIENCE = {"timeout": "15s", "retry_timeout": "10s", "max_retries": "5"}  # delta-rs' own would wait for minutes
_ODD = re.compile(r"[%?#*\[\]{}\\\x00-\x1f\x7f]")  # delta-rs reads escapes, queries and fragments; readers read globs
_NOISE = re.compile(r"(?:\x1b\[\d+m|↳|\s)+")  # delta-rs draws its errors as a tree


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
        InputError : an address of another kind, without a bucket, or with characters that readers take for something else.
        """
        scheme, _, rest = address.partition("://")
        key = rest.rstrip("/")
        if scheme != "s3" or not key or any(part in {"", ".", ".."} for part in key.split("/")):
            raise InputError(f"Got the store {address!r}; expected a folder, or s3://bucket/prefix.")
        if odd := _ODD.search(key):
            raise InputError(
                f"Got the store {address!r}, with {odd[0]!r} in it; expected none of % ? # * [ ] {{ }} \\."
            )
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
        """Whether anything lies below it."""
        return any(True for _ in self.iterdir())

    def is_file(self) -> bool:
        return self.size() is not None

    def size(self) -> int | None:
        """Bytes of an object; None where there is none."""
        with self.asking():
            found: int | None = _files().get_file_info(self.key).size
        return found

    @contextmanager
    def asking(self, mixed: bool = False) -> Iterator[None]:
        """What the server does not do, or refuses, gets its name; that something is not there stays FileNotFoundError.

        mixed : other failures happen here too, such as those of a damaged file; they pass as they are.

        Raises
        ------
        UnreachableError : the server does not answer, or refuses; also when there is no such bucket.
        """
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            text = _NOISE.sub(" ", str(error)).strip()
            if mixed and "AWS Error" not in text:
                raise
            raise UnreachableError(
                f"Got {self}, whose server does not do what is asked of it ({text[:600]}). Check the network, the bucket and "
                "its rights, and AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            ) from error

    def iterdir(self) -> Iterator[Bucket]:
        yield from (Bucket(found.path) for found in self._listed())

    def walk(self) -> Iterator[tuple[Bucket, int, float]]:
        """All objects below it, with size and time of the last change."""
        for found in self._listed(recursive=True):
            if found.is_file:  # a "folder" is an empty object that pyarrow leaves where the last one was deleted
                yield Bucket(found.path), found.size, found.mtime_ns / 1e9

    def _listed(self, recursive: bool = False) -> list[Any]:
        from pyarrow.fs import FileSelector

        try:
            with self.asking():  # "not found" allowed, a missing bucket would be an empty one
                listed = _files().get_file_info(FileSelector(self.key, allow_not_found=False, recursive=recursive))
        except FileNotFoundError:
            return []
        return sorted(listed, key=lambda found: found.path)

    @contextmanager
    def source(self) -> Iterator[Any]:
        """Random access, as pyarrow reads it."""
        with self.asking(mixed=True), _files().open_input_file(self.key) as file:
            yield file

    def read_bytes(self) -> bytes:
        with self.asking(), _files().open_input_stream(self.key) as stream:
            data: bytes = stream.readall()
        return data

    def write_bytes(self, data: Any) -> None:
        """Make an object of bytes, whole or not at all."""
        with self.asking(), _files().open_output_stream(self.key) as stream:
            stream.write(data)

    @contextmanager
    def open(self, mode: str, buffering: int = -1) -> Iterator[BinaryIO]:
        """A whole object in memory to read, or a new one, which appears when it is closed without an error."""
        if mode == "rb":
            yield io.BytesIO(self.read_bytes())
            return
        held = io.BytesIO()  # a part has a few tens of megabytes; a stream would publish what an error cut off
        yield held
        self.write_bytes(held.getbuffer())

    def upload(self, path: Path) -> None:
        """Make an object of a file; memory is bounded."""
        import pyarrow as pa

        if not path.stat().st_size:
            return self.write_bytes(b"")
        with pa.memory_map(str(path)) as file:
            self.write_bytes(file.read_buffer())

    def download(self, path: Path) -> None:
        """Make a file of an object; memory is bounded."""
        with self.asking(mixed=True), _files().open_input_stream(self.key) as stream, path.open("xb") as file:
            shutil.copyfileobj(stream, file, PIECE)

    def remove(self) -> None:
        """Delete an object, or all below a prefix; what is not there is no error."""
        for delete in (_files().delete_file, _files().delete_dir):
            with suppress(FileNotFoundError), self.asking():
                delete(self.key)
                return

    @property
    def options(self) -> dict[str, str]:
        """delta-rs' storage options; it takes keys from the environment by itself."""
        found = dict(PATIENCE)
        if server := endpoint():
            found |= {"aws_endpoint_url": server, "allow_http": str(server.startswith("http://")).lower()}
        if where := region():
            found["aws_region"] = where
        return found


def endpoint() -> str:
    """The server, where it is not AWS'.

    Raises
    ------
    InputError : it is no http:// or https:// address.
    """
    found = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    if found and not found.startswith(("http://", "https://")):
        raise InputError(f"Got AWS_ENDPOINT_URL={found!r}; expected http://host:port or https://host:port.")
    return found.rstrip("/")


def region() -> str:
    """Where the bucket is; "" leaves it to AWS' own rules. Other servers mostly do not care, but have to be told one."""
    found = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return found or ("us-east-1" if endpoint() else "")


def _files() -> FileSystem:
    return _connect(tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_"))))


@lru_cache(maxsize=4)
def _connect(settings: tuple[tuple[str, str], ...]) -> FileSystem:
    """A connection by these settings of the environment."""
    from pyarrow.fs import S3FileSystem

    # opened late, a small object is one request; in the foreground, an open stream cannot hang the interpreter's exit
    return S3FileSystem(
        endpoint_override=endpoint() or None, region=region() or None, connect_timeout=5, allow_delayed_open=True,
        background_writes=False,
    )  # fmt: skip
