"""Opening a file of vectors as it lies on disk: plain, .gz, or a member of a .zip."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, Any

from embedders.errors import InputError

VECTORS = (".txt", ".vec", ".bin", ".w2v", ".glove")  # which member of a .zip is meant, before .gz


def on_disk(path: Path) -> Path:
    """The file itself: `archive.zip` where the path goes on to a member."""
    return next((it for it in (path, *path.parents) if it.is_file()), path)


def path_size(path: Path) -> int:
    """Bytes of the file on disk."""
    return on_disk(path).stat().st_size


@contextmanager
def open_vectors(path: Path) -> Iterator[tuple[IO[bytes], Any]]:
    """The bytes of a file, unpacked, and a function that says how many bytes of the packed file were read.

    Raises
    ------
    InputError : no such file or member, one that cannot be unpacked, or an archive with several that may be meant.
    """
    from isal.igzip import GzipFile
    from isal.isal_zlib import IsalError

    broken: Any = (EOFError, OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, IsalError)
    real = on_disk(path)
    if not real.is_file():
        what = "a folder" if path.is_dir() else "where there is no such file"
        raise InputError(f"Got {str(path)!r}, {what}; expected a file of word vectors. Check the path.")
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(real.open("rb"))
            magic = raw.read(4)
            raw.seek(0)
            file: IO[bytes] = raw
            if magic.startswith(b"PK"):
                archive = stack.enter_context(zipfile.ZipFile(raw))
                file = stack.enter_context(archive.open(_member(archive, path, real)))
                magic = file.read(4)
                file.seek(0)
            elif real != path:
                raise InputError(f"Got {str(path)!r}; {str(real)!r} is no .zip. Check the path.")
            if magic.startswith(b"\x1f\x8b"):
                file = stack.enter_context(closing(GzipFile(fileobj=file, mode="rb")))  # type: ignore[no-untyped-call, arg-type]
            yield file, raw.tell
        except InputError:
            raise
        except broken as error:
            raise InputError(
                f"Got {str(path)!r}, which cannot be read or unpacked ({error}); expected a whole file. Fetch it again."
            ) from error


def _member(archive: zipfile.ZipFile, path: Path, real: Path) -> str:
    names = [info.filename for info in archive.infolist() if not info.is_dir()]
    if path != real:
        name = path.relative_to(real).as_posix()
        if name not in names:
            raise InputError(f"Got {str(path)!r}; {real.name} holds {', '.join(names)}. Name one of these.")
        return name
    likely = [n for n in names if n.lower().removesuffix(".gz").endswith(VECTORS) and not n.startswith("__MACOSX/")]
    likely = names if len(names) == 1 else likely
    if len(likely) != 1:
        raise InputError(
            f"Got {str(path)!r}, which holds {', '.join(names) or 'no file'}; expected one file of vectors. Name it: "
            f"{real.name}/{(likely or ['MEMBER'])[0]}."
        )
    return likely[0]
