"""Files of text to documents: lines or whole files, JSON lines, Parquet; plain, .gz or .zst. Read in pieces of a megabyte."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import pyarrow as pa

from embedders.errors import InputError
from storage.digests import unreadable

if TYPE_CHECKING:
    from storage.inputs.specs import CorpusSpec, TextColumns

BLOCK = 1 << 20  # bytes of text that are cut at once
PACKED = (".gz", ".zst")
BOM = b"\xef\xbb\xbf"
Form = Literal["text", "jsonl", "parquet"]


@dataclass(frozen=True)
class Source:
    """A file of a corpus. name: what it is called in ids; size: bytes."""

    name: str
    path: Path
    size: int

    @property
    def form(self) -> Form:
        """How it is read, by the end of its name."""
        name = self.path.name.lower()
        for suffix in PACKED:
            name = name.removesuffix(suffix)
        return "parquet" if name.endswith(".parquet") else "jsonl" if name.endswith(".jsonl") else "text"


@dataclass(frozen=True)
class Piece:
    """Some documents of one file, as they stand in it.

    first : the number of the first line or row, from 1. content : whole lines, a whole file, or rows (`id`, `text`).
    done : bytes of the file that were read by then.
    """

    source: Source
    first: int
    content: bytes | pa.RecordBatch
    done: int


def chunks(sources: Sequence[Source], spec: CorpusSpec) -> Iterator[list[Piece]]:
    """All pieces in order, small ones together.

    Raises
    ------
    InputError : a file cannot be read or unpacked, or lacks a column.
    """
    held: list[Piece] = []
    size = 0
    for source in sources:
        for piece in _pieces(source, spec):
            held.append(piece)
            size += piece.content.nbytes if isinstance(piece.content, pa.RecordBatch) else len(piece.content)
            if 2 * size >= BLOCK:
                yield held
                held, size = [], 0
    if held:
        yield held


def _pieces(source: Source, spec: CorpusSpec) -> Iterator[Piece]:
    if source.form == "parquet":
        yield from _rows(source, spec.text_columns)
        return
    line = 1
    whole = source.form == "text" and spec.document == "file"
    with _opened(source.path) as (stream, raw):
        for block in _blocks(stream, whole):
            content = block.removeprefix(BOM) if line == 1 else block
            yield Piece(source, line, content, raw.tell())
            line += block.count(b"\n")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, IO[bytes]]]:
    """A file as a stream of unpacked bytes, and as it lies on disk."""
    suffix = path.suffix.lower()
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(path.open("rb"))
        except OSError as error:
            raise unreadable(path, error) from error
        stream: Any = raw
        failures: tuple[type[Exception], ...] = ()
        if suffix == ".gz":
            from isal import igzip, isal_zlib

            opener: Any = igzip.open
            broken: Any = isal_zlib.error
            stream = stack.enter_context(opener(raw, "rb"))
            failures = (EOFError, igzip.BadGzipFile, zlib.error, broken)
        elif suffix == ".zst":
            stream = stack.enter_context(pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd"))
            failures = (OSError,)
        try:
            yield stream, raw
        except failures as error:
            kind = "gzip" if suffix == ".gz" else "zstd"
            raise InputError(
                f"Got {str(path)!r}, which cannot be unpacked ({error}); expected a whole {kind} file. Fetch it again."
            ) from error
        except OSError as error:
            raise unreadable(path, error) from error


def _blocks(stream: Any, whole: bool) -> Iterator[bytes]:
    """What a stream holds, in blocks that end with a line feed; `whole`, or a long line, is one block."""
    held: list[bytes] = []
    while block := stream.read(BLOCK):
        cut = 0 if whole else block.rfind(b"\n") + 1
        if cut:
            yield b"".join([*held, block[:cut]])
            held = []
        if cut < len(block):
            held.append(block[cut:])
    if held:
        yield b"".join(held)


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a text file, also .gz or .zst, without their ends.

    Raises
    ------
    InputError : it cannot be read or unpacked.
    """
    first = True
    with _opened(path) as (stream, _):
        for block in _blocks(stream, False):
            content = block.removeprefix(BOM) if first else block
            first = False
            yield from (line.rstrip(b"\r") for line in content.removesuffix(b"\n").split(b"\n"))


def _rows(source: Source, columns: TextColumns) -> Iterator[Piece]:
    """Rows of a Parquet file, about BLOCK bytes of text at a time."""
    import pyarrow.parquet as pq

    names = [columns.text] if columns.id is None else [columns.text, columns.id]
    try:
        with pq.ParquetFile(source.path, pre_buffer=False, buffer_size=BLOCK) as file:
            check_columns(source, names, file.schema_arrow.names)
            _check_types(source, columns, file.schema_arrow)
            row, total = 1, max(file.metadata.num_rows, 1)
            for group in range(file.num_row_groups):
                about = file.metadata.row_group(group)
                size = sum(about.column(i).total_uncompressed_size for i in range(about.num_columns))
                most = max(1, min(1 << 16, BLOCK * max(about.num_rows, 1) // max(size, 1)))
                for batch in file.iter_batches(most, row_groups=[group], columns=names):
                    found = pa.RecordBatch.from_arrays(
                        [batch.column(name) for name in names], ["text", "id"][: len(names)]
                    )
                    row += len(batch)
                    yield Piece(source, row - len(batch), found, source.size * (row - 1) // total)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"Got {str(source.path)!r}, which cannot be read ({str(error).splitlines()[0]}); expected a whole Parquet file. Fetch it again."
        ) from error


def check_columns(source: Source, wanted: Sequence[str], names: Sequence[str]) -> None:
    """Refuse columns that a file does not have.

    Raises
    ------
    InputError : one is not there, or more than once.
    """
    for name in wanted:
        if list(names).count(name) > 1:
            raise InputError(
                f"Got the column {name!r}, which {str(source.path)!r} has more than once; expected one. Rename the others."
            )
        if name not in names:
            raise InputError(
                f"Got the column {name!r}, which is not in {str(source.path)!r}; expected one of {', '.join(names) or 'none'}. "
                "Name it under `columns:` of the dataset."
            )


def _check_types(source: Source, columns: TextColumns, schema: pa.Schema) -> None:
    """Texts have to be strings, ids strings or whole numbers."""
    for name in filter(None, (columns.text, columns.id)):
        kind = schema.field(name).type
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        text = any(
            test(plain)
            for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
        )
        if not (text or (name != columns.text and pa.types.is_integer(plain))):
            raise InputError(
                f"Got the column {name!r} of {kind} in {str(source.path)!r}; expected strings. Convert it, or name another."
            )
