"""A damaged part is told by name; nothing else happens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from embedders.errors import PolyvecError
from storage import layout
from storage.errors import DamagedError
from storage.store import VectorStore
from tests.helpers_store import encoder_of, matrix_of, put


@pytest.fixture
def version(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "ROWS_PER_FILE", 50)
    return put(VectorStore(tmp_path / "vectors"), encoder_of([f"node {i}" for i in range(120)], matrix_of(120, 4)))


def readers(version):
    again = VectorStore(version.paths.root)
    yield lambda: again.find("s").ids
    yield lambda: again.find("s").matrix
    yield lambda: list(again.find("s").batches())
    yield lambda: again.find("s").table()


def refused(version, part: Path) -> None:
    for read in readers(version):
        with pytest.raises(DamagedError) as caught:
            read()
        assert str(part) in str(caught.value)
        assert "Restore" in str(caught.value)
        assert caught.value.exit_code == 1


@pytest.mark.parametrize("number", [0, 2])
def test_a_missing_part(version, number):
    part = Path(version.files[number])
    part.unlink()
    refused(version, part)


@pytest.mark.parametrize("kept", [0, 3, 100, -1])
def test_a_truncated_part(version, kept):
    part = Path(version.files[1])
    part.write_bytes(part.read_bytes()[:kept])
    refused(version, part)


def test_a_part_whose_footer_length_is_flipped(version):
    part = Path(version.files[1])
    content = bytearray(part.read_bytes())
    content[-6] ^= 0x40  # the four bytes before the closing PAR1 hold the footer's length
    part.write_bytes(content)
    refused(version, part)


def test_a_part_that_is_text(version):
    part = Path(version.files[0])
    part.write_text("no parquet here")
    refused(version, part)


def test_a_part_with_other_rows(version):
    part = Path(version.files[1])
    part.write_bytes(Path(version.files[2]).read_bytes())
    with pytest.raises(DamagedError, match=r"part-00001\.parquet.*20.*expected 50"):
        _ = VectorStore(version.paths.root).find("s").matrix


def test_ids_of_a_part_with_other_rows(version):
    part = Path(version.files[1])
    part.write_bytes(Path(version.files[2]).read_bytes())
    with pytest.raises(DamagedError, match=r"part-00001\.parquet"):
        _ = VectorStore(version.paths.root).find("s").ids


def test_any_flipped_bit_is_told_or_harms_one_value_only(version):
    """PLAIN vectors carry no checksum, so a flip in them changes a number; anywhere else it is told or harmless."""
    part = Path(version.files[2])
    content = part.read_bytes()
    rng = np.random.default_rng(0)
    told = 0
    for place in rng.choice(len(content), 60, replace=False):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        part.write_bytes(flipped)
        for read in readers(version):
            try:
                read()
            except PolyvecError as error:
                assert isinstance(error, DamagedError), error
                assert str(part) in str(error)
                told += 1
    assert told > 30
    part.write_bytes(content)
    for read in readers(version):
        read()


def test_the_other_version_still_reads(version):
    store = VectorStore(version.paths.root)
    second = put(store, encoder_of(["a", "b"]), replace=True)
    Path(version.files[0]).unlink()
    assert store.find("s").ids.tolist() == ["a", "b"]
    assert store.find("s").number == second.number
    assert put(store, encoder_of(["c"])).number == 3


def test_a_missing_model_is_told(version):
    for path in (version.paths.root / version.manifest.model).iterdir():
        path.unlink()
    with pytest.raises(PolyvecError, match=r"holds no encoder\.json"):
        version.encoder()


def test_row_groups_do_not_matter_to_what_is_read(version):
    """Another tool's copy of a part, with other row groups, reads as the same rows."""
    part = Path(version.files[0])
    table = pq.read_table(part)
    part.unlink()
    pq.write_table(table.cast(layout.SCHEMA), part, row_group_size=7)
    again = VectorStore(version.paths.root).find("s")
    assert np.array_equal(again.matrix, version.matrix)
    assert again.ids.tolist() == version.ids.tolist()
