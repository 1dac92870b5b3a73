"""Reading a log table leaves nothing behind that could bring the process down as it ends."""

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow as pa
import pytest

from storage import logs

SCHEMA = pa.schema([("space", pa.string()), ("version", pa.int64())])


def table(folder: Path) -> Path:
    for version in range(6):
        row = {"space": ["words", "looks"][version % 2], "version": version}
        logs.append(folder, pa.Table.from_pylist([row], schema=SCHEMA))
    return folder


def test_rows_that_match_all_filters(tmp_path: Path) -> None:
    folder = table(tmp_path / "log")
    assert len(logs.read_rows(folder, SCHEMA)) == 6
    found = logs.read_rows(folder, SCHEMA, {"space": "looks", "version": 3})
    assert found == [{"space": "looks", "version": 3}]


def test_no_thread_of_arrow_holds_bytes_of_python_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one holds when Python has ended aborts the process."""
    freed = []

    class Seen(bytes):
        def __del__(self) -> None:
            freed.append(threading.get_ident())

    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: Seen(read(self)))
    folder = table(tmp_path / "log")
    freed.clear()
    for turn in range(1, 31):
        logs.read_rows(folder, SCHEMA, {"space": "words"})
        assert freed == [threading.get_ident()] * 6 * turn
