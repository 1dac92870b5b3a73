"""Text files to a corpus: formats, damage, and counts against a plain reference."""

import gzip
import os
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedders.errors import InputError
from embedders.text.tokens import words
from storage.digests import DigestCache
from storage.inputs.corpus import lines, read_corpus
from storage.inputs.specs import CorpusSpec


def read(base, path, **options):
    spec = CorpusSpec(kind="corpus", path=path, **options)
    cache = base / "store" / "_cache"
    return spec.read(spec.scan(base, DigestCache(cache)), spec.gives[0], cache=cache)


def documents(corpus):
    """The corpus back as lists of words."""
    return [
        [corpus.words[i] for i in corpus.tokens[first:last]]
        for first, last in zip(corpus.offsets, corpus.offsets[1:], strict=False)
    ]


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix.lower() == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.gz", "A.TXT.GZ"])
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
    with pytest.raises(InputError, match=r"without a word, \d line\(s\) rejected"):
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


def test_progress_counts_files(tmp_path):
    files = [(name, put(tmp_path / name, b"word")) for name in ("a.txt", "b.txt")]
    seen = []
    read_corpus(files, progress=lambda *report: seen.append(report))
    assert seen == [(1, 2, "files"), (2, 2, "files")]


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
