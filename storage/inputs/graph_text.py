"""Files of text, plain or .gz: as streams, and how their lines are laid out."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from isal import igzip, isal_zlib

from embedders.errors import InputError
from storage.inputs.graph_spec import suffix

BLOCK = 1 << 20
"""Bytes that are simplified at once: few enough for the cache."""
_COMMENT = re.compile(rb"\n#[^\n]*")
_UNPACKING: Any = isal_zlib.error
UNREADABLE: tuple[type[Exception], ...] = (UnicodeDecodeError, OSError, EOFError, zlib.error, _UNPACKING)


@dataclass(frozen=True)
class Look:
    """How a file of text is laid out.

    Parameters
    ----------
    separator : of fields; None for runs of blanks.
    plain : neither .csv nor .tsv, so that the separator is that of the first edge and # starts a comment.
    comments : lines of comment before the first other one.
    simple : Arrow reads the rest as it stands: it holds no comment, and its blanks stand alone. Else see `simplified`.
    """

    separator: str | None
    plain: bool = False
    comments: int = 0
    simple: bool = True

    @classmethod
    def at(cls, path: Path) -> Look:
        """Look at a file: at its end, and if that does not tell, at its lines."""
        if suffix(path) in {".csv", ".tsv"}:
            return cls("," if suffix(path) == ".csv" else "\t")
        try:
            with unpacked(path) as file:
                return cls._of(file)
        except UNREADABLE as error:
            raise unreadable(path, error) from error

    @classmethod
    def _of(cls, file: IO[bytes]) -> Look:
        comments = 0
        for line in file:
            line = line.removeprefix(b"\xef\xbb\xbf") if not comments else line
            if line.startswith(b"#"):
                comments += 1
            elif line.strip():
                break
            elif comments:  # an empty line after comments: Arrow counts these otherwise
                return cls(_separator_after(file), True, comments, simple=False)
        else:
            return cls(None, True, comments, simple=False)
        separator = "\t" if b"\t" in line else "," if b"," in line else None
        odd = (b"\n#",) if separator else (b"\n#", b"  ", b"\t", b" \n", b"\n ", b" \r")
        held = b"\n" + line
        while held:
            if any(it in held for it in odd):
                return cls(separator, True, comments, simple=False)
            block = file.read(1 << 20)
            held = held[-1:] + block if block else b""
        return cls(separator, True, comments)


def _separator_after(file: IO[bytes]) -> str | None:
    line = next((line for line in file if line.strip() and not line.startswith(b"#")), b"")
    return "\t" if b"\t" in line else "," if b"," in line else None


def simplified(text: bytes, look: Look) -> bytes:
    """Whole lines without those of comment, and with blanks alone between fields."""
    text = b"\n" + text.removeprefix(b"\xef\xbb\xbf")
    if b"\n#" in text:
        text = _COMMENT.sub(b"", text)
    if look.separator is None:
        text = text.replace(b"\t", b" ")
        while b"  " in text:
            text = text.replace(b"  ", b" ")
        text = text.replace(b" \r\n", b"\n").replace(b" \n", b"\n").replace(b"\n ", b"\n").rstrip(b" ")
    return text


def simple_stream(path: Path, look: Look) -> pa.BufferReader:
    """A file that is not simple as a stream that is."""
    pieces, rest = [], b""
    with unpacked(path) as file:
        while block := file.read(BLOCK):
            head, end, tail = block.rpartition(b"\n")
            if end:
                pieces.append(simplified(rest + head + end, look))
                rest = tail
            else:
                rest += block
    return pa.BufferReader(b"".join([*pieces, simplified(rest, look)]))


def unpacked(path: Path) -> Any:
    """A file as a stream of its bytes, unpacked where it is .gz."""
    packed: Any = igzip
    return packed.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")


def opened(path: Path, newline: str = "\n") -> TextIOWrapper:
    """The same as text."""
    return TextIOWrapper(unpacked(path), "utf-8-sig", newline=newline)


def arrow_stream(path: Path) -> Any:
    """The same for Arrow, which reads it on a thread of its own."""
    return pa.input_stream(path, compression="gzip" if path.suffix.lower() == ".gz" else None)


def unreadable(path: Path, error: Exception) -> InputError:
    """What to say of a file that is no text."""
    return InputError(f"Got {str(path)!r}, which cannot be read ({error}); expected UTF-8 text, plain or gzip.")
