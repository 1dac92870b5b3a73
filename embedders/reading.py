"""Reading a small text file whole (judgements, labels, ids), with errors that say what to do."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from embedders.errors import InputError


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file (a byte-order mark is dropped); line ends are left as they are.

    Raises
    ------
    InputError : there is no such file, or it is not UTF-8.
    """
    try:
        found = Path(path).read_bytes()
        if Path(path).suffix.lower() == ".gz":
            found = gzip.decompress(found)
        return found.decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"Got {str(path)!r}, which does not exist; expected a text file. Check the path.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"Got {str(path)!r}, which cannot be read ({getattr(error, 'strerror', None) or error}); expected a text file, plain or .gz."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"Got {str(path)!r}, which is not UTF-8 at byte {error.start}; expected UTF-8 text. "
            "Convert it, for example with iconv -f latin1 -t utf-8."
        ) from None


def lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 file without their ends; LF, CRLF and CR end a line, nothing else does."""
    return read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
