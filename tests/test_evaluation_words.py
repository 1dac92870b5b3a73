import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from embedders.base import Vectors
from embedders.errors import InputError
from evaluation import analogies as module
from evaluation.analogies import analogies, combined, read_questions
from evaluation.neighbours import best, similarities
from evaluation.word_similarity import read_pairs, word_similarity

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


def words(**rows):
    return Vectors("word", list(rows), np.array(list(rows.values()), np.float32))


def angles(*degrees):
    """Words w0, w1, ... at angles to the word `zero`."""
    turned = np.radians([0, *degrees])
    matrix = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)
    return Vectors("word", ["zero", *(f"w{i}" for i in range(len(degrees)))], matrix)


@pytest.fixture(scope="session")
def glove():
    path = DATA / "glove_6b_50d_20k" / "glove.6B.50d.top20k.txt.gz"
    if not (path.is_file() and (DATA / "word_eval").is_dir()):
        pytest.skip("../shared/data/glove_6b_50d_20k and ../shared/data/word_eval are not beside the repository")
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        table = [line.rstrip("\n").split(" ") for line in file]
    return Vectors("word", [row[0] for row in table], np.array([row[1:] for row in table], np.float32))


@pytest.mark.parametrize(
    "text",
    [
        "a\tb\t1\nc\td\t2.5\n",
        "a b 1\nc   d\t2.5",
        "a,b,1\r\nc, d, 2.5\r\n",
        "\ufeff# made by hand\n\nword1\tword2\tscore\na\tb\t1\nc\td\t2.5\n",
        "Word 1,Word 2,Human (mean)\na,b,1\nc,d,2.5\n",
        'Word 1,Word 2,Human (mean),1,2\n"a",b,1,0,2\nc,"d",2.5,2,3\n',
        "word1\tword2\tPOS\tSimLex999\tconc(w1)\na\tb\tA\t1\t2.7\nc\td\tN\t2.5\t3\n",
    ],
)
def test_pairs_are_read_in_every_form(text, tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_bytes(text.encode())
    assert read_pairs(path) == [("a", "b", 1.0), ("c", "d", 2.5)]


def test_words_of_a_pair_may_hold_blanks_and_any_script(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("New York\tград\t5\nzero\u2028width\t犬\t1e-1\n", encoding="utf-8")
    assert read_pairs(path) == [("New York", "град", 5.0), ("zero\u2028width", "犬", 0.1)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a b 1\n\nc d\n", "line 3"),
        (b"a b 1\nc d x\n", "line 2"),
        (b"a b\n", "line 1"),
        (b"a b 1\nc d nan\n", "line 2"),
        (b"a\t\t1\n", "line 1"),
        (b"a b c 1\n", "line 1"),
        (b"a,b,1\nc,d,x\ne,f,2\n", "line 2"),
        (b"a,b,A,1\nc,d,N,2\ne,f\ng,h,N,3\n", "line 3"),
        (b"", "no pairs"),
        (b"# nothing\none two score\n", "no pairs"),
        (b"caf\xe9 bar 1\n", "UTF-8"),
    ],
)
def test_malformed_pairs_are_named(content, message, tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_pairs(path)


@pytest.mark.parametrize("read", [read_pairs, read_questions])
def test_a_missing_file_or_a_folder_is_an_input_error(read, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path / "none.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((4, 3, 2, 1), 1.0),
        ((1, 2, 3, 4), -1.0),
        ((4, 2, 3, 1), 0.8),
        ((2, 2, 1, 1), 2 / 5**0.5),  # ranks 4 3 2 1 against 3.5 3.5 1.5 1.5: 4 / sqrt(5 * 4)
    ],
)
def test_spearman_by_hand(scores, expected):
    pairs = [("zero", f"w{i}", float(score)) for i, score in enumerate(scores)]
    report = word_similarity(angles(10, 20, 30, 40), pairs)
    assert report.headline.metric == "spearman"
    assert report.headline.value == pytest.approx(expected)
    assert report.value("coverage") == 1.0


def test_pairs_with_unknown_words_are_counted_and_case_is_a_fallback():
    pairs = [("ZERO", "w0", 3.0), ("zero", "W1", 2.0), ("zero", "w2", 1.0), ("zero", "ünknown", 9.0)]
    report = word_similarity(angles(10, 20, 30), pairs)
    assert report.headline.value == pytest.approx(1.0)
    assert report.value("coverage") == 0.75
    assert (report.notes["n"], report.notes["missing"], report.notes["missing_words"]) == (3, 1, ["ünknown"])
    json.dumps(dict(report.notes))


def test_a_word_as_given_is_preferred_to_its_lower_case():
    vectors = words(a=[1, 0], Turkey=[1, 0.1], turkey=[-1, 0], b=[1, 1], c=[0, 1])
    pairs = [("a", "Turkey", 3.0), ("a", "b", 2.0), ("a", "c", 1.0)]
    assert word_similarity(vectors, pairs).headline.value == pytest.approx(1.0)


def test_the_interval_holds_the_value_and_depends_on_the_seed_alone():
    rng = np.random.default_rng(0)
    vectors = Vectors("word", [f"w{i}" for i in range(200)], rng.normal(size=(200, 3)).astype(np.float32))
    cosine = [float(vectors.matrix[i] @ vectors.matrix[i + 1]) for i in range(199)]
    pairs = [(f"w{i}", f"w{i + 1}", cosine[i] + rng.normal()) for i in range(199)]
    report = word_similarity(vectors, pairs)
    score = report.headline
    assert score.low < score.value < score.high and 0.05 < score.high - score.low < 0.4
    assert word_similarity(vectors, pairs).scores == report.scores
    assert word_similarity(vectors, pairs, seed=1).headline.low != score.low


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "0 of 0"),
        ([("zero", "w0", 1.0), ("zero", "w1", 2.0), ("zero", "nope", 3.0)], "2 of 3.*'nope'.*'zero', 'w0'"),
        ([("zero", f"w{i}", 1.0) for i in range(3)], "equal scores"),
        ([("zero", "w0", float(i)) for i in range(3)], "equal cosines"),
    ],
)
def test_what_cannot_be_correlated_is_refused(pairs, message):
    with pytest.raises(InputError, match=message):
        word_similarity(angles(10, 20, 30), pairs)


@pytest.mark.parametrize(
    ("name", "rho", "covered"),
    [
        ("EN-WS-353-ALL", 0.522, 319),
        ("EN-WS-353-SIM", 0.649, 177),
        ("EN-WS-353-REL", 0.432, 236),
        ("EN-SIMLEX-999", 0.271, 923),
        ("EN-RG-65", 0.750, 45),
        ("EN-MC-30", 0.735, 21),
        ("EN-MTurk-287", 0.631, 271),
    ],
)
def test_glove_scores_as_published_beside_the_data(glove, name, rho, covered):
    report = word_similarity(glove, read_pairs(DATA / "word_eval" / f"{name}.txt"))
    assert report.notes["n"] == covered
    assert report.headline.value == pytest.approx(rho, abs=0.0006)


PARALLELOGRAM = words(man=[1, 0, 0.2], woman=[1, 1, 0.2], king=[1, 0, 1], queen=[1, 1, 1], banana=[0.3, -1, 0.3])
QUESTIONS = {"family": [("man", "woman", "king", "queen"), ("king", "QUEEN", "man", "woman")]}


@pytest.mark.parametrize("method", ["add", "mul"])
def test_a_parallelogram_is_solved(method):
    report = analogies(PARALLELOGRAM, QUESTIONS, method=method)
    assert report.headline.metric == "accuracy" and report.headline.value == 1.0
    assert report.value("coverage") == 1.0
    assert report.notes["sections"] == {"family": {"accuracy": 1.0, "n": 2, "missing": 0}}


def test_wrong_and_missing_questions_are_told_by_section():
    questions = {
        "family": QUESTIONS["family"],
        "wrong": [("man", "woman", "king", "banana")],
        "unknown": [("man", "woman", "boy", "girl")],
    }
    report = analogies(PARALLELOGRAM, questions)
    assert report.headline.value == pytest.approx(2 / 3)
    assert report.value("coverage") == 0.75
    assert report.notes["sections"]["wrong"] == {"accuracy": 0.0, "n": 1, "missing": 0}
    assert report.notes["sections"]["unknown"] == {"accuracy": None, "n": 0, "missing": 1}
    json.dumps(dict(report.notes))


def test_restrict_keeps_the_first_words():
    report = analogies(PARALLELOGRAM, {"": [*QUESTIONS["family"], ("man", "woman", "king", "banana")]}, restrict=4)
    assert (report.notes["n"], report.notes["missing"], report.notes["words"]) == (2, 1, 4)
    with pytest.raises(InputError, match="none with all four"):
        analogies(PARALLELOGRAM, QUESTIONS, restrict=3)


@pytest.mark.parametrize("method", ["add", "mul"])
def test_blocks_agree_with_the_formula(method, monkeypatch):
    monkeypatch.setattr(module, "QUESTIONS_AT_ONCE", 17)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 5)
    monkeypatch.setattr(module, "WORDS_AT_ONCE", 13)
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(60, 5)).astype(np.float32)
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    cosine = (unit @ unit.T).astype(np.float64)
    asked, other = [], []
    for _ in range(50):
        a, b, c = rng.choice(60, 3, replace=False)
        if method == "add":
            score = cosine[b] - cosine[a] + cosine[c]
        else:
            score = (1 + cosine[b]) / 2 * (1 + cosine[c]) / 2 / ((1 + cosine[a]) / 2 + 0.001)
        score[[a, b, c]] = -np.inf
        asked.append(tuple(f"w{i}" for i in (a, b, c, int(score.argmax()))))
        other.append(tuple(f"w{i}" for i in (a, b, c, int(score.argsort()[-2]))))
    report = analogies(
        Vectors("word", [f"w{i}" for i in range(60)], matrix), {"best": asked, "second": other}, method=method
    )
    assert report.notes["sections"]["best"]["accuracy"] == 1.0
    assert report.notes["sections"]["second"]["accuracy"] == 0.0


def test_three_words_leave_no_answer():
    vectors = words(a=[1, 0], b=[0, 1], c=[1, 1])
    assert analogies(vectors, {"": [("a", "b", "c", "a")]}).headline.value == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"method": "div"}, "add, mul"), ({"restrict": 0}, "restrict=0"), ({"questions": {}}, "0 q")],
)
def test_bad_analogies_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        analogies(PARALLELOGRAM, **{"questions": QUESTIONS, **options})


def test_questions_are_read_by_section(tmp_path):
    path = tmp_path / "questions.txt"
    path.write_bytes("a b c d\r\n: capital cities\r\nAthens Greece Oslo Norway\r\n\r\n:x\r\né f g h\r\n".encode())
    assert read_questions(path) == {
        "": [("a", "b", "c", "d")],
        "capital cities": [("Athens", "Greece", "Oslo", "Norway")],
        "x": [("é", "f", "g", "h")],
    }


@pytest.mark.parametrize(
    ("content", "message"), [(b": x\na b c\n", "line 2"), (b": x\n", "no questions"), (b"\xff\xfe", "UTF-8")]
)
def test_malformed_questions_are_named(content, message, tmp_path):
    path = tmp_path / "questions.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_questions(path)


def solve(vectors, positive, negative, k=1, method="add"):
    """The answers as the command line finds them, from vectors in memory."""
    asked = [vectors.ids.index(word) for word in (*positive, *negative)]
    cosines = similarities(vectors.matrix, vectors.matrix[asked], "cosine")
    signs = [1] * len(positive) + [-1] * len(negative)
    found = best(combined(cosines, cosines[:, asked], signs, method), k, exclude=asked)
    return [(vectors.ids[row], score) for row, score in found]


def test_the_sum_of_words_finds_the_queen():
    found = solve(PARALLELOGRAM, ["king", "woman"], ["man"], k=9)
    assert [word for word, _ in found] == ["queen", "banana"]
    unit = PARALLELOGRAM.matrix / np.linalg.norm(PARALLELOGRAM.matrix, axis=1, keepdims=True)
    king, man, woman, queen = (unit[PARALLELOGRAM.ids.index(word)] for word in ("king", "man", "woman", "queen"))
    asked = king - man + woman
    assert found[0][1] == pytest.approx(asked @ queen / np.linalg.norm(asked), abs=1e-6)


def test_the_product_of_words_is_that_of_levy_and_goldberg():
    vectors = angles(30, 80, 140, 250)
    [(word, score), *_] = solve(vectors, ["w0", "w1"], ["zero"], k=9, method="mul")
    turned = {"w2": (110, 60, 140), "w3": (140, 170, 110)}  # degrees to w0, to w1, to zero
    value = {name: np.prod([(1 + np.cos(np.radians(d))) / 2 for d in to[:2]]) / ((1 + np.cos(np.radians(to[2]))) / 2 + 0.001) for name, to in turned.items()}  # fmt: skip
    assert word == max(value, key=value.get)
    assert score == pytest.approx(value[word], rel=1e-5)


def test_words_that_cancel_out_and_unknown_methods_are_refused():
    with pytest.raises(InputError, match="cancel out"):
        solve(PARALLELOGRAM, ["king"], ["king"])
    with pytest.raises(InputError, match="add, mul"):
        solve(PARALLELOGRAM, ["king"], ["man"], method="sub")


def test_glove_solves_google_questions(glove):
    questions = read_questions(DATA / "word_eval" / "questions-words.txt")
    assert len(questions) == 14 and sum(map(len, questions.values())) == 19_544
    report = analogies(glove, questions)
    assert report.notes["n"] + report.notes["missing"] == 19_544
    assert report.notes["sections"]["capital-common-countries"]["accuracy"] > 0.7
    assert solve(glove, ["king", "woman"], ["man"], k=1)[0][0] == "queen"


SETS = {
    "WS-353-ALL": 353,
    "WS-353-SIM": 203,
    "WS-353-REL": 252,
    "SIMLEX-999": 999,
    "RG-65": 65,
    "MC-30": 30,
    "MTurk-287": 287,
}


@pytest.mark.parametrize("name", SETS)
def test_the_files_of_word_pairs_are_read_as_they_are(name, shared_data):
    pairs = read_pairs(shared_data("word_eval") / f"EN-{name}.txt")
    assert len(pairs) == SETS[name]
    assert all(one.strip() == one and two.strip() == two and 0 <= score <= 10 for one, two, score in pairs)


def test_each_section_has_a_score_and_one_hot_its_cost():
    known = ("man", "woman", "king", "queen")
    asked = {"right": [known], "wrong": [("man", "woman", "king", "banana")] * 2, "none": [("a", "b", "c", "d")]}
    report = analogies(PARALLELOGRAM, asked)
    scores = {score.metric: score for score in report.scores}
    assert list(scores) == ["accuracy", "coverage", "section[right]", "section[wrong]"]
    assert (scores["section[right]"].value, scores["section[wrong]"].value) == (1, 0)
    assert scores["section[wrong]"].high > scores["section[wrong]"].low == 0
    n = len(PARALLELOGRAM)
    assert report.notes["sizes"]["one_hot"] == {"dim": n, "bytes": 4 * n * n, "sparse_bytes": 12 * n + 4}
    pairs = [("man", "woman", 2.0), ("king", "queen", 3.0), ("man", "queen", 1.0)]
    assert word_similarity(PARALLELOGRAM, pairs).notes["sizes"] == report.notes["sizes"]
