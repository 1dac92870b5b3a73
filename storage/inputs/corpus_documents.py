"""Pieces of files to documents: lines, whole files, objects of JSON lines, rows of Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedders.data import Rejected
from storage.inputs.corpus_files import Piece, Source, check_columns

if TYPE_CHECKING:
    from embedders.text.vocabulary import Texts
    from storage.inputs.specs import CorpusSpec, TextColumns

ID = pa.large_string()


@dataclass(frozen=True, eq=False)
class Found:
    """Documents of some pieces. ids: of `texts`; location: says in which file and where a text stands, by its number."""

    texts: Texts
    ids: pa.LargeStringArray
    location: Callable[[int], str]
    rejected: list[Rejected]


def documents(pieces: Sequence[Piece], spec: CorpusSpec) -> Found:
    """The documents of some pieces; those that are none because they are broken are rejected.

    Raises
    ------
    InputError : no row of a file has the column of texts.
    """
    found = [_documents(piece, spec) for piece in pieces]
    if len(found) == 1:
        return found[0]
    return _joined(found)


def _documents(piece: Piece, spec: CorpusSpec) -> Found:
    if isinstance(piece.content, pa.RecordBatch):
        return _of_rows(piece)
    if piece.source.form == "jsonl":
        return _of_json(piece, spec.text_columns)
    return _of_file(piece) if spec.document == "file" else _of_lines(piece)


def _of_file(piece: Piece) -> Found:
    assert isinstance(piece.content, bytes)
    texts = _texts(np.frombuffer(piece.content, np.uint8), np.array([0, len(piece.content)]), between=0)
    return Found(texts, pa.array([piece.source.name], ID), lambda text: str(piece.source.path), [])


def _of_lines(piece: Piece) -> Found:
    from embedders.kernels.tokenise import line_ends

    assert isinstance(piece.content, bytes)
    data = np.frombuffer(piece.content, np.uint8)
    ends = np.empty(piece.content.count(b"\n") + 1, np.int64)
    ends = ends[: line_ends(data, ends)]
    numbers = np.arange(piece.first, piece.first + len(ends))
    texts = _texts(data, np.concatenate([[0], ends + 1]))
    return Found(texts, _ids(piece.source, numbers), _location(piece.source, numbers), [])


def _of_json(piece: Piece, columns: TextColumns) -> Found:
    assert isinstance(piece.content, bytes)
    texts: list[bytes] = []
    ids: list[str] = []
    numbers: list[int] = []
    rejected: list[Rejected] = []
    known: dict[str, None] = {}
    for number, line in enumerate(piece.content.split(b"\n"), piece.first):
        if not line.strip():
            continue
        place = f"{piece.source.name}:{number}"
        row = _row(line)
        if isinstance(row, dict):
            known |= dict.fromkeys(row)
            row = _fields(row, columns, place)
        if len(row) == 2 and isinstance(row[1], bytes):
            ids.append(row[0])
            texts.append(row[1])
            numbers.append(number)
        else:
            rejected.append(Rejected(place, f"{piece.source.path}:{number}", *row))
    if known and piece.first == 1:
        check_columns(piece.source, [columns.text] if columns.id is None else [columns.text, columns.id], list(known))
    stops = np.cumsum([0, *map(len, texts)])
    found = _texts(np.frombuffer(b"".join(texts), np.uint8), stops, between=0)
    return Found(found, pa.array(ids, ID), _location(piece.source, numbers), rejected)


def _row(line: bytes) -> Any:
    """A line of JSON as a dict, or why not: a code and a message."""
    if 0 in line:
        return "nul_byte", nul(line, "line")
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return "not_utf8", not_utf8(error, "line")
    except (ValueError, RecursionError) as error:
        return "broken_json", f"the line is no JSON ({error}); expected an object a line"
    if not isinstance(row, dict):
        return "broken_json", f"the line is {_called(row)}; expected an object a line"
    return row


def _fields(row: dict[str, Any], columns: TextColumns, place: str) -> tuple[str, Any]:
    """The id and the text of a row, or why not."""
    text = row.get(columns.text)
    if not isinstance(text, str):
        return "no_text", f"{columns.text!r} is {_called(text)}; expected a string"
    id = place if columns.id is None else row.get(columns.id)
    if isinstance(id, int) and not isinstance(id, bool):
        id = str(id)
    if not isinstance(id, str) or not id:
        return "no_id", f"{columns.id!r} is {_called(id)}; expected a string or a whole number"
    try:
        id.encode()
        return id, text.encode()
    except UnicodeEncodeError as error:
        return "not_utf8", f"character {error.start} of the text or id is half of a surrogate pair"


def _called(value: Any) -> str:
    kinds = {
        type(None): "missing or null",
        bool: "a boolean",
        dict: "an object",
        list: "a list",
        str: "an empty string",
    }
    return kinds.get(type(value), "a number")


def _of_rows(piece: Piece) -> Found:
    rows = piece.content
    assert isinstance(rows, pa.RecordBatch)
    numbers = np.arange(piece.first, piece.first + len(rows))
    column = rows.column("text")
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    column = column.cast(pa.large_binary())
    lacks_text = column.is_null().to_numpy(zero_copy_only=False)
    bad_id = np.zeros(len(rows), bool)
    if "id" in rows.schema.names:
        ids = pc.fill_null(rows.column("id").cast(ID), "")
        lacks_id = pc.equal(ids, "").to_numpy(zero_copy_only=False)
        if not _is_utf8(ids):
            bad_id = np.array([not _is_utf8(ids[at : at + 1]) for at in range(len(ids))])
    else:
        ids, lacks_id = _ids(piece.source, numbers), bad_id
    location = _location(piece.source, numbers)
    rejected = []
    for at in np.flatnonzero(lacks_text | lacks_id | bad_id):
        code = "no_text" if lacks_text[at] else "no_id" if lacks_id[at] else "not_utf8"
        message = "the id is not UTF-8" if code == "not_utf8" else f"the {code[3:]} is null or empty; expected a string"
        rejected.append(Rejected(f"{piece.source.name}:{numbers[at]}", location(int(at)), code, message))
    _, offsets, data = column.buffers()
    stops = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    found = _texts(np.frombuffer(data or b"", np.uint8), stops, between=0)
    if rejected:
        good = np.flatnonzero(~(lacks_text | lacks_id | bad_id))
        return Found(_chosen(found, good), ids.take(pa.array(good)), _location(piece.source, numbers[good]), rejected)
    return Found(found, ids, location, rejected)


def _is_utf8(ids: pa.LargeStringArray) -> bool:
    """Parquet does not promise that its strings are."""
    try:
        ids.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _location(source: Source, numbers: Sequence[int] | NDArray[np.int64]) -> Callable[[int], str]:
    return lambda text: f"{source.path}:{numbers[text]}"


def _ids(source: Source, numbers: NDArray[np.int64]) -> pa.LargeStringArray:
    return pc.binary_join_element_wise(pa.scalar(source.name, ID), pc.cast(pa.array(numbers), ID), pa.scalar(":", ID))


def _texts(data: NDArray[np.uint8], stops: NDArray[np.int64], between: int = 1) -> Texts:
    """Texts that follow each other with so many bytes between two; `stops` has one number more than there are texts."""
    from embedders.text.vocabulary import Texts

    stops = np.asarray(stops, np.int64)
    return Texts(data, stops[:-1].copy(), stops[1:] - between)


def _chosen(texts: Texts, rows: NDArray[np.int64]) -> Texts:
    from embedders.text.vocabulary import Texts

    return Texts(texts.data, texts.starts[rows], texts.ends[rows])


def _joined(found: Sequence[Found]) -> Found:
    """What was found in several pieces, as one."""
    from embedders.text.vocabulary import Texts

    shifts = np.cumsum([0, *(len(one.texts.data) for one in found)])
    pairs = list(zip(found, shifts, strict=False))
    data = np.frombuffer(b"".join(one.texts.data.data for one in found), np.uint8)
    starts = np.concatenate([np.empty(0, np.int64), *(one.texts.starts + shift for one, shift in pairs)])
    ends = np.concatenate([np.empty(0, np.int64), *(one.texts.ends + shift for one, shift in pairs)])
    ids = pa.chunked_array([one.ids for one in found], ID).combine_chunks()
    firsts = np.cumsum([0, *(len(one.texts) for one in found)])

    def location(text: int) -> str:
        of = int(np.searchsorted(firsts, text, side="right")) - 1
        return found[of].location(text - int(firsts[of]))

    return Found(Texts(data, starts, ends), ids, location, [row for one in found for row in one.rejected])


# What is said of documents that cannot be read


def nul(text: bytes, what: str) -> str:
    """Where a text has a zero byte."""
    return f"byte {text.index(0)} of the {what} is NUL; expected UTF-8 text, not UTF-16 or a binary file"


def not_utf8(error: UnicodeDecodeError, what: str) -> str:
    """Where a text is not UTF-8."""
    return f"byte {error.start} of the {what} is {error.object[error.start]:#04x}, not UTF-8"
