"""Text files to a corpus: formats, damage, and counts against a plain reference."""

import gzip
import itertools
import json
import os
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedders.data import Corpus, Documents
from embedders.errors import InputError
from embedders.text.tokens import words
from storage.digests import DigestCache
from storage.inputs import corpus_build, corpus_files, corpus_ids
from storage.inputs.corpus import lines, read_corpus, read_documents
from storage.inputs.specs import CorpusSpec


def read(base, path, kind=Corpus, **options):
    spec = CorpusSpec(kind="corpus", path=path, **options)
    cache = base / "store" / "_cache"
    return spec.read(spec.scan(base, DigestCache(cache)), kind, cache=cache)


def documents(corpus):
    """The corpus back as lists of words."""
    return [
        [corpus.words[i] for i in corpus.tokens[first:last]]
        for first, last in zip(corpus.offsets, corpus.offsets[1:], strict=False)
    ]


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed(content, path.suffix.lower()))
    return path


def packed(content, suffix):
    if suffix == ".zst":
        return pa.compress(content, "zstd", asbytes=True)
    return gzip.compress(content) if suffix == ".gz" else content


def rows(*values):
    """JSON lines."""
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.gz", "A.TXT.GZ", "a.txt.zst", "a.zst", "text8"])
def test_plain_and_packed(tmp_path, name):
    put(tmp_path / name, b"The cat sat.\nThe dog\n")
    corpus = read(tmp_path, name)
    assert documents(corpus) == [["the", "cat", "sat"], ["the", "dog"]]
    assert list(corpus.words) == ["the", "cat", "dog", "sat"]
    assert corpus.counts.tolist() == [2, 1, 1, 1]
    assert (corpus.counts.dtype, corpus.tokens.dtype, corpus.offsets.dtype) == (np.int64, np.int32, np.int64)
    assert corpus.rejected == ()


def test_a_folder_and_a_glob_in_the_order_of_names(tmp_path):
    put(tmp_path / "t" / "b.txt", b"second")
    put(tmp_path / "t" / "a.txt.gz", b"first")
    put(tmp_path / "t" / "sub" / "c.txt", b"third")
    put(tmp_path / "t" / "notes.md", b"other")
    put(tmp_path / "t" / ".hidden.txt", b"hidden")
    assert documents(read(tmp_path, "t")) == [["first"], ["second"], ["third"]]
    assert documents(read(tmp_path, "t/*.txt")) == [["second"]]
    assert documents(read(tmp_path, "t/**/*.txt")) == [["second"], ["third"]]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xef\xbb\xbfone two\nthree", [["one", "two"], ["three"]]),
        (b"one\r\ntwo\r\n\r\nthree", [["one"], ["two"], ["three"]]),
        (b"\n\n  \none\n\t\n...\n", [["one"]]),
        (b"no end of line", [["no", "end", "of", "line"]]),
        (
            "Привет мир\nहिन्दी में\ncafe\u0301 café\n日本".encode(),
            [["привет", "мир"], ["हिन्दी", "में"], ["café", "café"], ["日本"]],
        ),
        ("a\u2028b\x0bc\x85d".encode(), [["a", "b", "c", "d"]]),  # only a line feed ends a document
    ],
    ids=["bom", "crlf", "blank", "open end", "scripts", "other breaks"],
)
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_bytes_of_all_kinds(tmp_path, content, expected, name):
    put(tmp_path / name, content)
    assert documents(read(tmp_path, name)) == expected


def test_whitespace_tokens(tmp_path):
    put(tmp_path / "a.txt", "The, the\tTHE!  don’t\n".encode())
    assert documents(read(tmp_path, "a.txt", tokens="whitespace")) == [["The,", "the", "THE!", "don’t"]]


@pytest.mark.parametrize("name", ["t/a.txt", "t/a.txt.gz"])
def test_a_line_that_is_not_utf8_is_rejected_by_its_place(tmp_path, name):
    path = put(tmp_path / name, b"\xef\xbb\xbfgood one\n\nbad \xff\xfe\ngood two\n\x80")
    corpus = read(tmp_path, name)
    assert documents(corpus) == [["good", "one"], ["good", "two"]]
    assert [row.id for row in corpus.rejected] == [f"{path.name}:3", f"{path.name}:5"]
    assert [row.location for row in corpus.rejected] == [f"{path}:3", f"{path}:5"]
    assert {row.code for row in corpus.rejected} == {"not_utf8"}
    assert "byte 4" in corpus.rejected[0].message and "0xff" in corpus.rejected[0].message


def test_text_of_another_encoding(tmp_path):
    put(tmp_path / "a.txt", "Grüße\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"without a word, \d document\(s\) rejected"):
        read(tmp_path, "a.txt")


def test_a_truncated_gz(tmp_path):
    whole = gzip.compress(os.urandom(5000).hex().encode())
    (tmp_path / "a.txt.gz").write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"a\.txt\.gz.*cannot be unpacked.*Fetch it again"):
        read(tmp_path, "a.txt.gz")


@pytest.mark.parametrize(
    "content", [b"plain text", b"\x1f\x8b\x08\x00damaged header and all"], ids=["plain", "damaged"]
)
def test_a_gz_that_is_none(tmp_path, content):
    (tmp_path / "a.txt.gz").write_bytes(content)
    with pytest.raises(InputError, match="cannot be unpacked"):
        read(tmp_path, "a.txt.gz")


def test_a_gz_with_a_flipped_bit(tmp_path):
    damaged = bytearray(gzip.compress(os.urandom(5000).hex().encode()))
    damaged[3000] ^= 0xFF
    (tmp_path / "a.txt.gz").write_bytes(bytes(damaged))
    with pytest.raises(InputError, match="cannot be unpacked"):
        read(tmp_path, "a.txt.gz")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"  \t \n", b"... --- !!!\n", b"\xef\xbb\xbf"])
def test_no_word_at_all(tmp_path, content):
    put(tmp_path / "a.txt", content)
    with pytest.raises(InputError, match=r"1 file\(s\) without a word.*a\.txt"):
        read(tmp_path, "a.txt")


def test_an_empty_file_beside_a_full_one(tmp_path):
    put(tmp_path / "a.txt", b"")
    put(tmp_path / "b.txt", b"word")
    assert documents(read(tmp_path, "*.txt")) == [["word"]]


def test_one_huge_line(tmp_path):
    put(tmp_path / "a.txt", b"alpha beta " * 300_000)
    corpus = read(tmp_path, "a.txt")
    assert len(corpus.offsets) == 2 and len(corpus.tokens) == 600_000
    assert corpus.counts.tolist() == [300_000, 300_000]


def test_words_of_one_count_stand_in_code_point_order(tmp_path):
    put(tmp_path / "a.txt", "z я é a 日 B a 😀x 10 9".encode())
    assert list(read(tmp_path, "a.txt", tokens="whitespace").words) == ["a", "10", "9", "B", "z", "é", "я", "日", "😀x"]


def test_progress_counts_bytes_of_the_files_as_they_lie(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_files, "BLOCK", 1000)
    contents = [("a.txt.gz", os.urandom(3000).hex().encode()), ("b.txt", b"word\n" * 500), ("c.txt.zst", b"x" * 5000)]
    files = [(name, put(tmp_path / name, content)) for name, content in contents]
    sizes = [path.stat().st_size for _, path in files]
    seen = []
    read_corpus(files, progress=lambda *report: seen.append(report))
    done = [report[0] for report in seen]
    assert {report[1:] for report in seen} == {(sum(sizes), "bytes")}
    assert done == sorted(done) and done[-1] == sum(sizes) and 0 < done[0] < sizes[0] + 2000
    assert len(set(done)) > 4


def test_lines_keep_blanks_inside(tmp_path):
    assert list(lines(put(tmp_path / "a.txt", b"\xef\xbb\xbf a \r\n\r\n\tb\r\xef\xbb\xbf\n"))) == [
        b" a ",
        b"",
        b"\tb\r\xef\xbb\xbf",
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=30),
            st.sampled_from(["the cat", "the dog", "Ünï cödé"]),
        ),
        max_size=12,
    )
)
def test_counts_are_those_of_a_counter(tmp_path, texts):
    """A line feed inside a text parts it in two documents, as in the file."""
    path = tmp_path / "a.txt"
    content = "\n".join(texts).encode("utf-8")
    path.write_bytes(content)
    plain = [words(line) for line in content.removeprefix(b"\xef\xbb\xbf").decode().split("\n")]
    expected = Counter(word for document in plain for word in document)
    if not expected:
        with pytest.raises(InputError):
            read_corpus([("a.txt", path)])
        return
    corpus = read_corpus([("a.txt", path)])
    assert dict(zip(corpus.words, corpus.counts.tolist(), strict=True)) == expected
    assert documents(corpus) == [document for document in plain if document]
    order = [(-count, word) for word, count in zip(corpus.words, corpus.counts.tolist(), strict=True)]
    assert order == sorted(order)


def test_lines_with_a_nul_byte_are_rejected(tmp_path):
    """UTF-16 has them in every line: half of its letters would make words."""
    put(tmp_path / "a.txt", b"one two\nbad\x00line\nthree\n" + "four five\n".encode("utf-16-le"))
    corpus = read(tmp_path, "a.txt")
    assert documents(corpus) == [["one", "two"], ["three"]]
    assert [(r.id, r.code) for r in corpus.rejected][:2] == [("a.txt:2", "nul_byte"), ("a.txt:4", "nul_byte")]


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.zst", "a.jsonl.gz", "a.jsonl.zst"])
def test_what_is_cut_off_is_an_error(tmp_path, name):
    whole = packed(rows({"text": os.urandom(5000).hex()}), "." + name[-3:].lstrip("."))
    (tmp_path / name).write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"cannot be unpacked.*Fetch it again"):
        read(tmp_path, name)


@pytest.mark.parametrize("content", [b"plain text", b"\x28\xb5\x2f\xfddamaged header"])
def test_a_zst_that_is_none(tmp_path, content):
    (tmp_path / "a.txt.zst").write_bytes(content)
    with pytest.raises(InputError, match="cannot be unpacked"):
        read(tmp_path, "a.txt.zst")


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_packed_files_one_after_another_are_one(tmp_path, suffix):
    """As `cat a.gz b.gz` makes them, and pigz or pzstd."""
    (tmp_path / f"a.txt{suffix}").write_bytes(packed(b"one two\n", suffix) + packed(b"three\n", suffix))
    assert documents(read(tmp_path, f"a.txt{suffix}")) == [["one", "two"], ["three"]]


# Blocks: what is read and cut at once


@pytest.mark.parametrize("block", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_size_of_blocks_and_threads_change_nothing(tmp_path, monkeypatch, block, threads):
    content = "\ufeffÜber die Köpfe\n\nzwei\r\ndrei \n\0 nul\n日本 語。 x\n".encode() + b"bad \xff\nlast one\n"
    files = [(name, put(tmp_path / name, content * 3)) for name in ("a.txt", "b.txt.gz", "c.txt.zst", "d.txt")]
    expected = read_documents(files, sentences=True)
    monkeypatch.setattr(corpus_files, "BLOCK", block)
    monkeypatch.setattr(corpus_build, "AT_ONCE", 3)
    monkeypatch.setattr("storage.inputs.corpus.cores", lambda: threads)
    found = read_documents(files, sentences=True)
    for name in ("words", "ids", "digests", "rejected"):
        assert list(getattr(found, name)) == list(getattr(expected, name)), name
    for name in ("counts", "tokens", "offsets"):
        assert getattr(found, name).tolist() == getattr(expected, name).tolist(), name
    assert len(found) == 4 * 3 * 5 and len(found.rejected) == 4 * 6


def test_many_threads_give_the_same_bytes(tmp_path, monkeypatch, shared_data):
    path = shared_data("text_wikipedia_en") / "wikipedia_en.txt.gz"
    monkeypatch.setattr(corpus_files, "BLOCK", 100_000)
    found = []
    for threads in (1, 5, 5):
        monkeypatch.setattr("storage.inputs.corpus.cores", lambda threads=threads: threads)
        found.append(read_corpus([("w", path)], phrases=True))
    for other in found[1:]:
        assert list(other.words) == list(found[0].words)
        assert np.array_equal(other.tokens, found[0].tokens) and np.array_equal(other.offsets, found[0].offsets)
        assert np.array_equal(other.counts, found[0].counts)


@pytest.mark.slow
def test_one_line_of_a_hundred_megabytes(tmp_path):
    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        for _ in range(100):
            file.write(b"alpha beta gamma " * (1_000_000 // 17))
        file.write(b"\nlast line\n")
    corpus = read_corpus([("a.txt", path)])
    assert corpus.offsets.tolist() == [0, 100 * 3 * (1_000_000 // 17), len(corpus.tokens)]
    assert corpus.counts[:3].tolist() == [100 * (1_000_000 // 17)] * 3


# Documents


def test_documents_have_ids_digests_and_offsets(tmp_path):
    put(tmp_path / "t" / "a.txt", b"the cat\n\n...\nthe dog\nthe cat")
    put(tmp_path / "t" / "s" / "b.txt", b"The CAT!")
    found = read(tmp_path, "t", Documents)
    assert found.ids == ["a.txt:1", "a.txt:4", "a.txt:5", "s/b.txt:1"]
    assert found.offsets.tolist() == [[0, 2], [2, 4], [4, 6], [6, 8]]
    assert found.digests[0] == found.digests[2] == found.digests[3] != found.digests[1]
    assert all(len(digest) == 32 and int(digest, 16) for digest in found.digests)
    assert (
        found.digests[1:3] == list(found.digests)[1:3]
        and found.ids[-1] == "s/b.txt:1"
        and found.ids[::2] == ["a.txt:1", "a.txt:5"]
    )
    assert pa.array(found.ids).to_pylist() == list(found.ids) and pa.array(
        found.digests, pa.large_string()
    ).to_pylist() == list(found.digests)
    some = found.select([3, 1])
    assert some.ids == ["s/b.txt:1", "a.txt:4"] and some.offsets.tolist() == [[6, 8], [2, 4]]


def test_a_digest_depends_on_its_document_only(tmp_path):
    put(tmp_path / "a.txt", b"the cat sat\nthe cat sat on")
    put(tmp_path / "b.txt", b"sat sat sat on on\nzebra\nthe cat sat on\nthe sat cat\nthe\ncat sat")
    one, two = read(tmp_path, "a.txt", Documents), read(tmp_path, "b.txt", Documents)
    assert one.digests[1] == two.digests[2]
    assert len({*one.digests, *two.digests}) == 7
    assert one.digests[0] == "4bc541412ae323c8c6f3463ae3686f2a"  # other digests would embed every document again


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_file_is_a_document(tmp_path, suffix):
    put(tmp_path / "t" / f"a.txt{suffix}", b"\xef\xbb\xbfone\n\ntwo. Three\n")
    put(tmp_path / "t" / f"b.txt{suffix}", b"")
    put(tmp_path / "t" / f"c.txt{suffix}", b"four \xff")
    put(tmp_path / "t" / f"d.txt{suffix}", b"five\0")
    put(tmp_path / "t" / "s" / f"e.txt{suffix}", b"six")
    found = read(tmp_path, "t", Documents, document="file")
    assert found.ids == [f"a.txt{suffix}", f"s/e.txt{suffix}"]
    assert found.offsets.tolist() == [[0, 3], [3, 4]]
    assert [(r.id, r.location, r.code) for r in found.rejected] == [
        (f"c.txt{suffix}", str(tmp_path / "t" / f"c.txt{suffix}"), "not_utf8"),
        (f"d.txt{suffix}", str(tmp_path / "t" / f"d.txt{suffix}"), "nul_byte"),
    ]
    assert "byte 5 of the text is 0xff" in found.rejected[0].message


# Rows: JSON lines and Parquet


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "A.JSONL"])
def test_json_lines(tmp_path, name):
    put(
        tmp_path / name,
        b"\xef\xbb\xbf"
        + rows({"text": "The cat\nsat", "n": 1}, {"text": "Café \U0001f600 x"})
        + b"\r\n"
        + rows({"text": ""}, {"text": "end"}).rstrip(),
    )
    found = read(tmp_path, name, Documents)
    assert documents(read(tmp_path, name)) == [["the", "cat", "sat"], ["café", "x"], ["end"]]
    assert found.ids == [f"{name}:1", f"{name}:2", f"{name}:5"] and found.rejected == ()


def table_of(*values):
    return pa.table({name: [row.get(name) for row in values] for name in values[0]})


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_named_columns(tmp_path, form):
    values = [{"body": f"word{i} of document {i}", "key": f"d{i}", "other": i} for i in range(2500)]
    path = tmp_path / f"a.{form}"
    if form == "jsonl":
        path.write_bytes(rows(*values))
    else:
        pq.write_table(table_of(*values), path, row_group_size=700)
    found = read(tmp_path, path.name, Documents, columns={"text": "body", "id": "key"})
    assert found.ids == [row["key"] for row in values]
    assert [found.words[token] for token in found.tokens[found.offsets[1999, 0] : found.offsets[1999, 1]]] == [
        "word1999",
        "of",
        "document",
        "1999",
    ]
    numbered = read(tmp_path, path.name, Documents, columns={"text": "body", "id": "other"})
    assert numbered.ids == [str(i) for i in range(2500)]
    assert read(tmp_path, path.name, Documents, columns={"text": "body"}).ids[2499] == f"{path.name}:2500"


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_parquet_of_all_kinds_of_strings(tmp_path, kind):
    texts = pa.array(["the cat", None, "", "the dog", "the cat"]).cast(kind)
    ids = pa.array(["a", "b", "c", "d", None]).cast(kind)
    pq.write_table(pa.table({"text": texts, "id": ids}), tmp_path / "a.parquet")
    found = read(tmp_path, "a.parquet", Documents, columns={"id": "id"})
    assert found.ids == ["a", "d"] and found.words == ["the", "cat", "dog"]
    path = tmp_path / "a.parquet"
    assert [(r.id, r.location, r.code) for r in found.rejected] == [
        ("a.parquet:2", f"{path}:2", "no_text"), ("a.parquet:5", f"{path}:5", "no_id"),
    ]  # fmt: skip


def test_parquet_with_bytes_that_are_not_utf8(tmp_path):
    texts = pa.array([b"good", b"bad \xff", b"nul \0", b"fine"]).view(pa.string())
    pq.write_table(pa.table({"text": texts, "key": ["w", "x", "y", "z"]}), tmp_path / "a.parquet")
    found = read(tmp_path, "a.parquet", Documents, columns={"id": "key"})
    assert found.ids == ["w", "z"]
    assert [(r.id, r.location[-3:], r.code) for r in found.rejected] == [
        ("x", "t:2", "not_utf8"),
        ("y", "t:3", "nul_byte"),
    ]
    assert "byte 4 of the text is 0xff" in found.rejected[0].message


def test_parquet_ids_that_are_not_utf8(tmp_path):
    keys = pa.array([b"a", b"b\xff", b"c", None]).view(pa.string())
    pq.write_table(pa.table({"text": ["one", "two", "three", "four"], "key": keys}), tmp_path / "a.parquet")
    found = read(tmp_path, "a.parquet", Documents, columns={"id": "key"})
    assert found.ids == ["a", "c"]
    assert [(r.id, r.code) for r in found.rejected] == [("a.parquet:2", "not_utf8"), ("a.parquet:4", "no_id")]


def test_two_columns_of_one_name(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"'text', which .*a\.parquet' has more than once"):
        read(tmp_path, "a.parquet")


def test_rows_that_are_no_documents(tmp_path):
    lines_ = [
        b'{"text": "good one"}', b"{broken", b'["a"]', b"7", b'{"text": null}', b'{"txt": "x"}', b'{"text": 3}', b'{"text": "\xff"}',
        b'{"text": "\0"}', b'{"text": "esc \\u0000"}', b'{"text": "\\ud800"}', b'{"text": ["a"]}', b"[" * 100_000, b'{"text": "good two"}',
    ]  # fmt: skip
    path = put(tmp_path / "a.jsonl", b"\n".join(lines_))
    found = read(tmp_path, "a.jsonl", Documents)
    assert found.ids == ["a.jsonl:1", "a.jsonl:14"]
    codes = {int(r.id.split(":")[1]): r.code for r in found.rejected}
    assert codes == {
        2: "broken_json", 3: "broken_json", 4: "broken_json", 5: "no_text", 6: "no_text", 7: "no_text", 8: "not_utf8", 9: "nul_byte",
        10: "nul_byte", 11: "not_utf8", 12: "no_text", 13: "broken_json",
    }  # fmt: skip
    assert all(r.location == f"{path}:{r.id.split(':')[1]}" for r in found.rejected)
    messages = {int(r.id.split(":")[1]): r.message for r in found.rejected}
    assert (
        "byte 10 of the line is 0xff" in messages[8] and "missing or null" in messages[5] and "a number" in messages[7]
    )


def test_ids_that_are_none(tmp_path):
    put(
        tmp_path / "a.jsonl",
        rows(
            {"text": "a", "id": "x"},
            {"text": "b"},
            {"text": "c", "id": ""},
            {"text": "d", "id": 1.5},
            {"text": "e", "id": True},
            {"text": "f", "id": 7},
        ),
    )
    found = read(tmp_path, "a.jsonl", Documents, columns={"id": "id"})
    assert found.ids == ["x", "7"] and [r.code for r in found.rejected] == ["no_id"] * 4


@pytest.mark.parametrize("columns", [{}, {"text": "text"}, {"text": "body", "id": "key"}])
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_missing_column_names_those_there_are(tmp_path, form, columns):
    path = tmp_path / f"a.{form}"
    values = {"body": "some text", "number": 3}
    path.write_bytes(rows(values)) if form == "jsonl" else pq.write_table(table_of(values), path)
    with pytest.raises(InputError, match=r"which is not in .*expected one of body, number"):
        read(tmp_path, path.name, columns=columns or None)


@pytest.mark.parametrize("kind", [pa.int64(), pa.list_(pa.string()), pa.binary()])
def test_a_column_of_another_type(tmp_path, kind):
    pq.write_table(pa.table({"text": pa.array([None], kind)}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"'text' of .*expected strings"):
        read(tmp_path, "a.parquet")


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-50], lambda b: b"no parquet", lambda b: b[:200] + b"\xff" * 400 + b[600:], lambda b: b""]
)
def test_a_damaged_parquet(tmp_path, damage):
    pq.write_table(
        pa.table({"text": [os.urandom(20).hex() for _ in range(500)]}), tmp_path / "a.parquet", compression="none"
    )
    (tmp_path / "a.parquet").write_bytes(damage((tmp_path / "a.parquet").read_bytes()))
    with pytest.raises(InputError, match=r"a\.parquet"):
        read(tmp_path, "a.parquet")


def test_one_id_twice_names_both_places(tmp_path, monkeypatch):
    put(tmp_path / "t" / "a.jsonl", rows(*({"text": "x", "id": i} for i in range(1000))))
    put(
        tmp_path / "t" / "b.jsonl.gz",
        rows({"text": "x", "id": "b"}, {"text": "...", "id": "3"}, {"text": "x", "id": "77"}),
    )
    expected = r"'77' twice: .*a\.jsonl:78 and .*b\.jsonl\.gz:3;"
    with pytest.raises(InputError, match=expected):
        read(tmp_path, "t", columns={"id": "id"})
    monkeypatch.setattr(corpus_ids, "AT_ONCE", 50)  # in many parts
    with pytest.raises(InputError, match=expected):
        read(tmp_path, "t", columns={"id": "id"})


def test_ids_of_one_hash_may_differ(tmp_path, monkeypatch):
    put(tmp_path / "a.jsonl", rows(*({"text": "x", "id": i} for i in range(100))))
    monkeypatch.setattr(corpus_ids, "_hashes", lambda ids: np.zeros(len(ids), np.uint64))
    assert len(read(tmp_path, "a.jsonl", Documents, columns={"id": "id"})) == 100


def test_options_that_no_file_has_a_use_for_are_refused(tmp_path):
    put(tmp_path / "a.txt", b"word")
    put(tmp_path / "a.jsonl", rows({"body": "word"}))
    with pytest.raises(InputError, match=r"columns for .* which is plain text"):
        read(tmp_path, "a.txt", columns={"text": "body"})
    with pytest.raises(InputError, match=r"`document: file` for .* where each row is a document"):
        read(tmp_path, "a.jsonl", document="file")
    both = read(tmp_path, "a.*", Documents, columns={"text": "body"}, document="file")
    assert both.ids == ["a.jsonl:1", "a.txt"]


# Stop words, sentences


def test_stop_words_are_left_out_and_belong_to_the_digest(tmp_path):
    put(tmp_path / "a.txt", "The cat and the dog\nthe and\nDon’t sit\n".encode())
    put(tmp_path / "stop.txt", b"THE\nand\ndon't\nzebra\n")
    corpus = read(tmp_path, "a.txt", stop_words="stop.txt")
    assert documents(corpus) == [["cat", "dog"], ["sit"]] and corpus.words == ["cat", "dog", "sit"]
    assert read(tmp_path, "a.txt", Documents, stop_words="stop.txt").ids == ["a.txt:1", "a.txt:3"]
    digests = DigestCache(tmp_path / "store" / "_cache")
    spec = CorpusSpec(kind="corpus", path="a.txt", stop_words="stop.txt")
    before = spec.scan(tmp_path, digests).digest
    put(tmp_path / "same.txt", (tmp_path / "stop.txt").read_bytes())
    assert spec.model_copy(update={"stop_words": "same.txt"}).scan(tmp_path, digests).digest == before
    put(tmp_path / "stop.txt", b"cat")
    assert spec.scan(tmp_path, digests).digest != before
    assert documents(read(tmp_path, "a.txt", stop_words="stop.txt"))[0] == ["the", "and", "the", "dog"]


def test_stop_words_as_they_stand(tmp_path):
    put(tmp_path / "a.txt", b"The the, the\n")
    put(tmp_path / "stop.txt.gz", b"the\n")
    assert documents(read(tmp_path, "a.txt", stop_words="stop.txt.gz", tokens="whitespace")) == [["The", "the,"]]


def test_stop_words_that_leave_nothing_or_cannot_be_read(tmp_path):
    put(tmp_path / "a.txt", b"the the")
    put(tmp_path / "stop.txt", b"the")
    with pytest.raises(InputError, match=r"without a word.* that is no stop word"):
        read(tmp_path, "a.txt", stop_words="stop.txt")
    put(tmp_path / "stop.txt", b"\xff")
    with pytest.raises(InputError, match=r"stop words .* not UTF-8"):
        read(tmp_path, "a.txt", stop_words="stop.txt")
    with pytest.raises(InputError, match=r"none\.txt.*cannot be read"):
        read(tmp_path, "a.txt", stop_words="none.txt")


def test_sentences_bound_contexts_and_documents_stay(tmp_path):
    put(
        tmp_path / "a.txt",
        "The cat. ΟΔΟΣ! ... Dog\n...\nOne\nbad \xff. x".encode("latin-1", "ignore") + "\nΑΣ. Two. 三。四".encode(),
    )
    corpus = read(tmp_path, "a.txt", sentences=True)
    found = read(tmp_path, "a.txt", Documents, sentences=True)
    assert documents(corpus) == [["the", "cat"], ["dog"], ["one"], ["ας"], ["two"], ["三"], ["四"]]
    assert found.ids == ["a.txt:1", "a.txt:3", "a.txt:5"] and found.offsets.tolist() == [[0, 3], [3, 4], [4, 8]]
    assert [r.id for r in corpus.rejected] == ["a.txt:4"] == [r.id for r in found.rejected]
    whole = read(tmp_path, "a.txt", Documents)
    assert whole.digests == found.digests and whole.offsets.tolist() == found.offsets.tolist()
    assert list(itertools.pairwise(corpus.offsets))[-1] == (7, 8)


def test_the_digest_of_a_dataset_is_that_of_before_without_new_options(tmp_path):
    """Versions made before there were these options stay up to date."""
    put(tmp_path / "a.txt", b"word")
    digests = DigestCache(tmp_path / "store" / "_cache")

    def digest(**options):
        return CorpusSpec(kind="corpus", path="a.txt", **options).scan(tmp_path, digests).digest

    assert digest() == "94799b59a864e7282bd420bee55c49c7064ad34de405cfe6ec17141539d13647"
    assert digest() == digest(document="line", sentences=False, phrases=False, columns=None)
    put(tmp_path / "s.txt", b"a")
    others = [
        {"tokens": "whitespace"}, {"document": "file"}, {"sentences": True}, {"stop_words": "s.txt"}, {"phrases": True},
        {"phrases": {"threshold": 0.4}}, {"phrases": {"score": "original"}}, {"phrases": {"passes": 2}}, {"phrases": {"min_count": 2}},
    ]  # fmt: skip
    assert len({digest(), *(digest(**other) for other in others)}) == len(others) + 1
    assert digest(phrases=True) == digest(phrases={"threshold": 0.5, "min_count": 5})


def test_a_stop_list_that_changes_while_it_is_used(tmp_path):
    put(tmp_path / "a.txt", b"one two\n" * 1000)
    path = put(tmp_path / "s.txt", b"one")
    spec, cache = CorpusSpec(kind="corpus", path="a.txt", stop_words="s.txt"), tmp_path / "store" / "_cache"
    scan = spec.scan(tmp_path, DigestCache(cache))
    with pytest.raises(InputError, match=r"s\.txt', which changed while it was read"):
        spec.read(scan, Corpus, cache=cache, progress=lambda *_: path.write_bytes(b"one two"))


def test_a_file_that_changes_while_it_is_read(tmp_path):
    path = put(tmp_path / "a.txt", b"one\n" * 1000)
    spec, cache = CorpusSpec(kind="corpus", path="a.txt"), tmp_path / "store" / "_cache"
    scan = spec.scan(tmp_path, DigestCache(cache))

    def change(done, total, unit):
        path.write_bytes(b"other\n" * 500)

    with pytest.raises(InputError, match=r"a\.txt', which changed while it was read"):
        spec.read(scan, Corpus, cache=cache, progress=change)
    assert [p.name for p in (cache / "corpora").iterdir() if p.is_dir() and p.suffix != ".tmp"] == []
    path.write_bytes(b"")
    with pytest.raises(InputError, match="which changed while it was read"):  # not: there is no word
        spec.read(scan, Corpus, cache=cache)
