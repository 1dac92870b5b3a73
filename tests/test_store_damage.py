"""A damaged part is told by name; nothing else happens."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedders.base import Batch, Vectors
from storage import layout
from storage.errors import DamagedError
from storage.store import VectorStore
from storage.verify import verify
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
        assert "estore" in str(caught.value)
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


def check_told_or_right(version, part: Path) -> int:
    """Each way of reading gives exactly the rows that were written, or an error that names the part; how often told."""
    again = VectorStore(version.paths.root).find("s")
    ids, matrix = [f"node {i}" for i in range(120)], matrix_of(120, 4)
    table = layout.batch_table(Batch(Vectors("node", ids, matrix)))
    rights = [
        lambda: again.ids.tolist() == ids,
        lambda: again.matrix.tobytes() == matrix.tobytes(),
        lambda: again.table().equals(table),
        lambda: pa.Table.from_batches(again.batches()).equals(table.select(["id", "vector"])),
    ]
    told = 0
    for right in rights:
        try:
            assert right()
        except DamagedError as error:
            assert str(part) in str(error)
            told += 1
    findings = list(verify(again))
    assert [finding.place for finding in findings] == [str(part)], findings
    return told


@pytest.mark.parametrize("times", [40, pytest.param(1500, marks=pytest.mark.slow)])
def test_any_flipped_bit_is_told_or_harmless(version, times):
    """Wherever it is; `verify` names the part in any case."""
    part = Path(version.files[2])
    content = part.read_bytes()
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "big"))
    told = 0
    for _ in range(times):
        place, bit = int(rng.integers(len(content))), int(rng.integers(8))
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        part.write_bytes(flipped)
        try:
            told += check_told_or_right(version, part)
        except AssertionError as error:
            raise AssertionError(f"byte {place}, bit {bit}") from error
    assert told > times
    part.write_bytes(content)
    assert list(verify(VectorStore(version.paths.root).find("s"))) == []


@pytest.mark.parametrize("kept", [None, 0, 3, 100, -1])
def test_verify_names_a_missing_or_truncated_part(version, kept):
    part = Path(version.files[1])
    content = part.read_bytes()
    part.unlink()
    if kept is not None:
        part.write_bytes(content[:kept])
    [finding] = verify(VectorStore(version.paths.root).find("s"))
    assert (finding.place, finding.problem.split()[1]) == (str(part), "missing" if kept is None else "not")


def test_the_other_version_still_reads(version):
    store = VectorStore(version.paths.root)
    second = put(store, encoder_of(["a", "b"]), replace=True)
    Path(version.files[0]).unlink()
    assert store.find("s").ids.tolist() == ["a", "b"]
    assert store.find("s").number == second.number
    assert put(store, encoder_of(["c"])).number == 3


@pytest.mark.parametrize("name", ["encoder.json", "weights.safetensors", "ids.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_damaged_model_is_told_and_vectors_still_read(version, name, damage):
    file = version.paths.root / version.manifest.model / name
    content = file.read_bytes()
    file.unlink()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    if damage == "flipped":
        rng = np.random.default_rng(int.from_bytes(os.urandom(4), "big"))
        flipped = bytearray(content)
        flipped[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        file.write_bytes(flipped)
    again = VectorStore(version.paths.root).find("s")
    with pytest.raises(DamagedError, match="Restore it from a copy") as caught:
        again.encoder()
    assert str(file) in str(caught.value) and caught.value.exit_code == 1
    assert [finding.place for finding in verify(again)] == [str(file)]
    assert np.array_equal(again.matrix, matrix_of(120, 4))


def test_row_groups_do_not_matter_to_what_is_read(version):
    """Another tool's copy of a part, with other row groups, reads as the same rows."""
    part = Path(version.files[0])
    table = pq.read_table(part)
    part.unlink()
    pq.write_table(table.cast(layout.SCHEMA), part, row_group_size=7)
    again = VectorStore(version.paths.root).find("s")
    assert np.array_equal(again.matrix, version.matrix)
    assert again.ids.tolist() == version.ids.tolist()
