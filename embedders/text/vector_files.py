"""Files of word vectors that others made: word2vec .bin and .txt, GloVe .txt, fastText .vec; plain, .gz, or in a .zip.

What a file is, is seen from its first bytes, not from its name. Folders (`embedders.text.vector_folders`) hold a matrix
and a list of words. Of a file in reading, memory holds the rows that are kept and one block, never the text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix, Progress, silent
from embedders.errors import InputError
from embedders.text.packed_files import open_vectors, path_size

HEAD = 1 << 20  # bytes that are looked at to see what a file is; a line of 4,096 numbers has 80,000
BLOCK = 1 << 23  # bytes that are parsed at once
EXPECTED = "lines 'word number number ...' or word2vec's binary form"
REFUSED = {
    b"\xba\x16\x4f\x2f": "a model of fastText's own; expected its vectors: the .vec file beside it",
    b"\x80": "pickled Python, which can run code; expected vectors: save them with save_word2vec_format",
    b"\xff\xfe": "UTF-16; expected UTF-8. Convert it, for example with iconv -f utf-16 -t utf-8",
    b"\xfe\xff": "UTF-16; expected UTF-8. Convert it, for example with iconv -f utf-16 -t utf-8",
}


@dataclass(frozen=True, eq=False)
class WordTable:
    """Words and their vectors. matrix: (n, dim) float32. left_out: rows of the file that are not in it, by reason."""

    words: Sequence[str]
    matrix: Matrix
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """What a file is. rows: as its first line says, None without such a line; skip: bytes before the first row."""

    dim: int
    rows: int | None
    binary: bool
    skip: int


def read_vectors(
    path: Path, *, limit: int | None = None, only: Container[str] | None = None, progress: Progress = silent
) -> WordTable:
    """Read a file of vectors. Of a word that stands there twice, the first row is taken.

    Parameters
    ----------
    path : the file; `archive.zip/member` where the archive holds several.
    limit : read only the first rows.
    only : keep only these words.

    Returns
    -------
    The rows in the file's order. `left_out` counts `not_utf8`, and `duplicate` among the words that are asked for.

    Raises
    ------
    InputError : no such file, an empty one, one that is cut off or of another kind, or a line that is malformed.
    """
    with open_vectors(path) as (file, position):
        head = file.read(HEAD)
        layout = layout_of(head, path)
        found = Kept(layout.dim, only)
        blocks = _binary_rows if layout.binary else _text_rows
        for words, matrix in blocks(file, head[layout.skip :], layout, limit, path):
            found.add(words, matrix)
            progress(position(), path_size(path), "bytes")
    return found.table()


def dim_of(path: Path) -> int:
    """How many numbers a vector of the file has; reads its beginning.

    Raises
    ------
    InputError : as `read_vectors`.
    """
    with open_vectors(path) as (file, _):
        return layout_of(file.read(HEAD), path).dim


# ---- what it is


def layout_of(head: bytes, path: Path) -> Layout:
    """What a file is, from its first bytes.

    Raises
    ------
    InputError : empty, or nothing that is known here.
    """
    if not head.strip():
        raise InputError(f"Got {str(path)!r}, which is empty; expected {EXPECTED}.")
    for magic, what in REFUSED.items():
        if head.startswith(magic):
            raise InputError(f"Got {str(path)!r}, {what}.")
    mark = 3 if head.startswith(b"\xef\xbb\xbf") else 0
    first, _, rest = head[mark:].partition(b"\n")
    fields = first.split()
    if len(fields) == 2 and all(it.isdigit() for it in fields):
        rows, dim = map(int, fields)
        if not rows or not 0 < dim <= 65536:
            raise InputError(f"{path}:1: got {_shown(first)}; expected the number of rows and of numbers in each.")
        line = rest.partition(b"\n")[0].split()
        text = len(line) > dim and _numbers(line) >= dim
        return Layout(dim, rows, not text and _is_binary(rest), mark + len(first) + 1)
    dim = min(_numbers(fields), len(fields) - 1)
    if dim < 1:
        raise InputError(f"{path}:1: got {_shown(first)}; expected {EXPECTED}, which begins with its numbers of rows.")
    return Layout(dim, None, False, mark)


def _numbers(fields: Sequence[bytes]) -> int:
    """How many fields at the end of a line are numbers."""
    for n, it in enumerate(reversed(fields)):
        try:
            float(it)
        except ValueError:
            return n
    return len(fields)


def _is_binary(head: bytes) -> bool:
    """Float32 has bytes that no text has: control characters, or what is no UTF-8."""
    sample = head[:4096]
    if any(byte < 32 and byte not in b"\t\n\r" for byte in sample):
        return True
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        return error.start < len(sample) - 3  # else a character is cut by the end of the sample
    return False


def _shown(text: bytes) -> str:
    found = text[:60].decode(errors="backslashreplace").strip()
    return repr(found + "..." if len(text) > 60 else found)


# ---- rows


def _text_rows(
    file: IO[bytes], block: bytes, layout: Layout, limit: int | None, path: Path
) -> Iterator[tuple[list[bytes], Matrix]]:
    from embedders.kernels.vector_text import parse_lines

    head = int(layout.rows is not None)
    line, rows, wanted = head + 1, 0, layout.rows if limit is None else limit
    while block:
        more = file.read(BLOCK)
        cut = len(block) if not more else block.rfind(b"\n") + 1
        whole, block = block[:cut], block[cut:] + more
        if not cut and len(block) > 16 * HEAD:
            raise InputError(f"{path}:{line}: got a line of more than {len(block):,} bytes; expected {EXPECTED}.")
        most = min(len(whole) // (2 * layout.dim) + 1, limit - rows if limit else 1 << 62)
        matrix = np.empty((most, layout.dim), np.float32)
        spans = np.empty((most, 2), np.int64)
        n, seen, problem, begin, end = parse_lines(np.frombuffer(whole, np.uint8), matrix, spans, most)
        if problem:
            raise InputError(f"{path}:{line + seen}: {_wrong(problem, whole[begin:end], layout)}")
        line, rows = line + seen, rows + n
        yield [whole[a:b] for a, b in spans[:n].tolist()], matrix[:n]
        if limit is not None and rows == limit:
            return
    if wanted is not None and layout.rows is not None and rows != min(wanted, layout.rows):
        raise _miscounted(path, layout.rows, f"{rows:,}")


def _wrong(problem: int, got: bytes, layout: Layout) -> str:
    from embedders.kernels import vector_text as kernel

    said = f"a word and {layout.dim} numbers, as line 1 {'says' if layout.rows is not None else 'has'}"
    match problem:
        case kernel.FEW:
            return f"got {len(got.split())} fields: {_shown(got)}; expected {said}. Mend the line; it may be cut off."
        case kernel.MANY:
            return f"got more than {layout.dim} numbers: {_shown(got)}; expected {said}. Mend the line."
        case kernel.NO_WORD:
            return f"got no word before the numbers: {_shown(got)}; expected {said}. Mend the line, or take it out."
        case kernel.NOT_FINITE:
            return f"got {_shown(got)}; expected a finite number that float32 holds. Mend the line, or take it out."
    return f"got {_shown(got)}; expected a number such as -0.25 or 1e-3. Mend the line, or take it out."


def _binary_rows(
    file: IO[bytes], block: bytes, layout: Layout, limit: int | None, path: Path
) -> Iterator[tuple[list[bytes], Matrix]]:
    from embedders.kernels.vector_text import parse_binary

    assert layout.rows is not None
    width = 4 * layout.dim
    rows, wanted = 0, layout.rows if limit is None else min(limit, layout.rows)
    while rows < wanted:
        most = min(len(block) // (width + 1) + 1, wanted - rows)
        matrix, spans = np.empty((most, layout.dim), "<f4"), np.empty((most, 2), np.int64)
        n, used = parse_binary(np.frombuffer(block, np.uint8), matrix.view(np.uint8), spans, most)
        bad = np.flatnonzero(~np.isfinite(matrix[:n]).all(axis=1))
        if len(bad):
            name = block[slice(*spans[bad[0]].tolist())]
            raise InputError(
                f"Got NaN or infinity in row {rows + bad[0] + 1:,} ({_shown(name)}) of {str(path)!r}; expected finite "
                f"numbers. The file is damaged, or its first line does not say the number of rows and of numbers."
            )
        if len(nameless := np.flatnonzero(spans[:n, 0] == spans[:n, 1])):
            raise InputError(
                f"Got no word in row {rows + nameless[0] + 1:,} of {str(path)!r}; expected a word before the numbers. The "
                "file is damaged, or its first line does not say the number of rows and of numbers."
            )
        yield [block[a:b] for a, b in spans[:n].tolist()], matrix[:n]
        rows, block = rows + n, block[used:]
        if rows < wanted:
            more = file.read(BLOCK)
            if not more or len(block) > 2 * BLOCK + width:
                raise _miscounted(path, layout.rows, f"{rows:,} whole")
            block += more
    if rows == layout.rows and (block.strip() or file.read(1 << 10).strip()):
        raise _miscounted(path, layout.rows, "more")


def _miscounted(path: Path, said: int, got: str) -> InputError:
    return InputError(
        f"Got {got} rows in {str(path)!r}, whose first line says {said:,}; expected the same. The file is cut off or "
        "damaged: fetch it again."
    )


@dataclass(eq=False)
class Kept:
    """Rows as they come, without those that cannot be looked up: `table` at the end."""

    dim: int
    only: Container[str] | None = None

    def __post_init__(self) -> None:
        self.rows: dict[str, None] = {}
        self.left_out: Counter[str] = Counter()
        self.matrix = np.empty((0, self.dim), np.float32)

    def add(self, words: Sequence[bytes], matrix: NDArray[Any]) -> None:
        """Some more rows."""
        fresh = []
        for row, raw in enumerate(words):
            try:
                word = raw.decode()
            except UnicodeDecodeError:
                self.left_out["not_utf8"] += 1
                continue
            if self.only is not None and word not in self.only:
                continue
            if word in self.rows:
                self.left_out["duplicate"] += 1
            else:
                self.rows[word] = None
                fresh.append(row)
        n = len(self.rows)
        if n > len(self.matrix):  # realloc moves large arrays by their pages, without a second copy
            self.matrix.resize((max(n, len(self.matrix) * 5 // 4), self.dim), refcheck=False)
        self.matrix[n - len(fresh) : n] = matrix[fresh] if len(fresh) < len(words) else matrix

    def table(self) -> WordTable:
        """What was kept."""
        self.matrix.resize((len(self.rows), self.dim), refcheck=False)
        return WordTable(list(self.rows), self.matrix, dict(self.left_out))
