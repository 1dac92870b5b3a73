"""Outputs of kind recommend: the table, its versions, and the list of one user."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedders.errors import InputError
from flows import recommend as module
from flows import steps
from flows.pipeline import Pipeline, schema
from flows.plan import make_plan
from storage import delta, lists, promotion, retention
from storage.errors import BusyError, DamagedError, ReplacedError
from storage.retention import Keep
from storage.verify import verify
from tests.helpers_store import edit

PIPELINE = """\
store: ./vectors
datasets:
  visits: {kind: interactions, path: visits.tsv}
spaces:
  club: {dataset: visits, embedder: als, params: {dim: 3, regularization: 0.1, threads: 1}, fold_in: 0.2}
outputs:
  picks: {kind: recommend, space: club, k: 4}
"""


def write_visits(folder, more=""):
    """Users with two tastes; one who met all there is."""
    rng = np.random.default_rng(0)
    lines = [
        f"user {u}\t{taste} {i}"
        for u in range(20)
        for taste in [("tea", "日本 rock")[u % 2]]
        for i in rng.permutation(9)[:6]
    ]
    lines += [f"Zoë B\t{taste} {i}" for taste in ("tea", "日本 rock") for i in range(9)]
    (folder / "visits.tsv").write_text("\n".join(lines) + "\n" + more, encoding="utf-8")


@pytest.fixture
def file(tmp_path):
    write_visits(tmp_path)
    (tmp_path / "polyvec.yaml").write_text(PIPELINE)
    return tmp_path / "polyvec.yaml"


def run(file, run="one", force=False):
    """What the flow does, as plain calls."""
    pipeline = Pipeline.load(file)
    plan = make_plan(pipeline, force=force)
    versions = {}
    for entry in {space.entry for space in plan.spaces}:
        versions |= steps.embed(pipeline, entry, run, force=force)
    versions |= {name: module.make(pipeline, name, run, force=force) for name in pipeline.derived}
    steps.release(pipeline, {name: ref.version for name, ref in versions.items()}, run, promote=True)
    return plan


def picks(file, which="latest"):
    return Pipeline.load(file).vectors.space("picks").version(which)


def by_user(version):
    found = {}
    for row in version.table().to_pylist():
        found.setdefault(row["user"], []).append((row["rank"], row["item"], row["score"]))
    return found


def expected(file, k=4, filtered=True):
    """Of the vectors of both sides, by NumPy."""
    store = Pipeline.load(file).vectors
    users, items = (store.space(f"club.{side}").latest() for side in ("users", "items"))
    met = {tuple(line.split("\t")) for line in (file.parent / "visits.tsv").read_text(encoding="utf-8").splitlines()}
    found = {}
    for user, vector in zip(users.ids, users.matrix, strict=True):
        scores = {item: float(vector @ other) for item, other in zip(items.ids, items.matrix, strict=True)}
        left = [item for item in scores if not (filtered and (user, item) in met)]
        best = sorted(left, key=lambda item: -scores[item])[:k]
        found[user] = [(rank, item, pytest.approx(scores[item], abs=1e-5)) for rank, item in enumerate(best, 1)]
    return {user: rows for user, rows in found.items() if rows}


def test_each_user_has_a_list(file):
    run(file)
    version = picks(file)
    assert by_user(version) == expected(file)
    assert version.table().schema == lists.SCHEMA
    counts = version.manifest.counts
    assert (counts.input, counts.embedded, dict(counts.excluded)) == (21, 20, {"nothing unseen": 1})  # Zoë met all
    assert (version.manifest.dim, version.manifest.similarity, version.manifest.entity) == (4, "dot", "user")
    assert version.manifest.upstream == {"club.users": 1, "club.items": 1}
    assert make_plan(Pipeline.load(file)).idle


def test_seen_items_may_be_kept(file):
    edit(file, "k: 4", "k: 40, seen: kept")
    run(file)
    assert by_user(picks(file)) == expected(file, k=18, filtered=False)
    assert picks(file).manifest.counts.excluded == {}


def test_other_tools_read_its_files(file):
    run(file)
    version = picks(file)
    table = pa.concat_tables(pq.read_table(path) for path in version.files)
    assert table.num_rows == 20 * 4 - sum(4 - len(rows) for rows in by_user(version).values())
    described = json.loads(pq.read_metadata(version.files[0]).metadata[b"polyvec"])
    assert (described["space"], described["recipe"]["params"]["seen"]) == ("picks", "filtered")
    from deltalake import DeltaTable

    log = DeltaTable(str(version.paths.space("picks")))
    assert log.to_pyarrow_table().sort_by("user") == table.sort_by("user")


@pytest.mark.parametrize("k", [1, 3])
def test_many_small_pieces_make_the_same_table(file, k, monkeypatch):
    edit(file, "k: 4", f"k: {k}")
    run(file)
    monkeypatch.setattr(module, "USERS_AT_ONCE", 4)
    monkeypatch.setattr(lists, "ROWS_PER_FILE", 7)
    run(file, "two", force=True)
    one, two = (picks(file, number).table() for number in (1, 2))
    parts = picks(file).manifest.files
    assert len(parts) == -(-two.num_rows // 7) and {entry.rows for entry in parts[:-1]} == {7}
    assert expected(file, k=k) == by_user(picks(file))
    assert one.select(["user", "rank"]) == two.select(["user", "rank"])
    assert [batch.num_rows for batch in picks(file).batches(["user"], rows=5)][:2] == [5, 2]


def test_it_follows_its_space_and_its_dataset(file):
    run(file)

    def reason():
        [output] = make_plan(Pipeline.load(file)).outputs
        return output.reason

    edit(file, "k: 4", "k: 5")
    assert reason() == "k: 4 -> 5"
    run(file, "two")
    assert reason() == "same vectors, same data" and picks(file).manifest.parent == 1
    assert not module.make(Pipeline.load(file), "picks", "again").fresh
    write_visits(file.parent, "new user\ttea 1\nnew user\ttea 2\n")
    assert reason() == "club.users will change"
    pipeline = Pipeline.load(file)
    steps.embed(pipeline, "club", "three")
    assert reason() == "club.users changed"
    run(file, "four")
    version = picks(file)
    assert version.manifest.upstream == {"club.users": 2, "club.items": 2}
    assert [rank for rank, *_ in by_user(version)["new user"]] == [1, 2, 3, 4, 5]  # folded in
    assert {"tea 1", "tea 2"}.isdisjoint(item for _, item, _ in by_user(version)["new user"])
    version.parts[0].unlink()
    assert reason() == "1 of its Parquet files are missing or cut short"
    run(file, "five")
    assert by_user(picks(file)) == expected(file, k=5) and picks(file).number == 4


def test_a_release_holds_lists_beside_the_vectors_they_are_made_of(file):
    """After a rollback, what is made of the vectors that were taken back waits with them."""
    run(file)
    edit(file, "dim: 3", "dim: 3, iterations: 7")
    run(file, "two")
    pipeline = Pipeline.load(file)
    promotion.rollback(pipeline.vectors.paths)
    edit(file, "k: 4", "k: 3")
    run(file, "three")
    assert picks(file).manifest.upstream == {"club.users": 2, "club.items": 2}
    assert pipeline.vectors.release() == {"club.users": 1, "club.items": 1, "picks": 1}
    assert pipeline.vectors.releases()[-1].spaces == {"club.users": 2, "club.items": 2, "picks": 3}
    found = make_plan(Pipeline.load(file))
    assert found.idle and found.released  # and nothing is done again
    edit(file, "iterations: 7", "iterations: 8")
    run(file, "four")
    assert pipeline.vectors.release() == {"club.users": 3, "club.items": 3, "picks": 4}


def test_lists_of_vectors_that_another_run_made_meanwhile_are_not_released(file):
    pipeline = Pipeline.load(file)
    mine = steps.embed(pipeline, "club", "one")
    steps.embed(pipeline, "club", "two", force=True)
    made = module.make(pipeline, "picks", "one")
    versions = {name: ref.version for name, ref in {**mine, "picks": made}.items()}
    with pytest.raises(BusyError, match="Got picks@1 to release, made of versions that another run made in between"):
        steps.release(pipeline, versions, "one", promote=True)
    assert pipeline.vectors.release() is None
    run(file, "three")
    assert pipeline.vectors.release() == {"club.users": 2, "club.items": 2, "picks": 1}


def test_without_a_filter_a_change_of_the_dataset_alone_changes_nothing(file):
    edit(file, "k: 4", "k: 4, seen: kept")
    run(file)
    pipeline = Pipeline.load(file)
    scan = next(s for s in make_plan(pipeline).spaces).scan
    assert picks(file).manifest.dataset_digest == scan.digest
    assert module.make(pipeline, "picks", "two").fresh is False


def test_the_filter_is_of_the_dataset_as_it_is(file):
    """New events of users and items that have vectors; the space is not learned anew."""
    run(file)
    before = by_user(picks(file))["user 0"][0][1]
    with (file.parent / "visits.tsv").open("a") as out:
        out.write(f"user 0\t{before}\nuser 0\tan item without a vector\n")
    assert module.make(Pipeline.load(file), "picks", "two").fresh
    assert before not in [item for _, item, _ in by_user(picks(file))["user 0"]]
    found = module.recommend_to(Pipeline.load(file), "club", "user 0", 4).best
    assert [item for item, _ in found] == [item for _, item, _ in by_user(picks(file))["user 0"]]
    write_visits(file.parent)  # as it was when the vectors were learned
    plan = make_plan(Pipeline.load(file))
    assert {space.action for space in plan.spaces} == {"up to date"} and plan.outputs[0].reason == "the dataset changed"


def test_users_and_items_of_two_trainings_are_refused(file):
    run(file)
    pipeline = Pipeline.load(file)
    users = pipeline.vectors.space("club.users").latest()
    other = pipeline.vectors.space("club.items").latest()
    object.__setattr__(other.manifest, "run", "another")
    with pytest.raises(InputError, match="not of one training"):
        module._check_alike(users, other)


def test_a_run_that_fails_leaves_nothing(file, monkeypatch):
    run(file)
    real = delta.commit

    def broken(folder, manifest, base):
        if manifest.space == "picks":
            raise OSError("the disk is gone")
        return real(folder, manifest, base)

    with monkeypatch.context() as patched:
        patched.setattr(delta, "commit", broken)
        with pytest.raises(OSError, match="gone"):
            module.make(Pipeline.load(file), "picks", "two", force=True)
    folder = file.parent / "vectors" / "picks"
    assert sorted(path.name for path in folder.iterdir()) == ["_delta_log", "v00001-one"]
    assert picks(file).number == 1
    assert module.make(Pipeline.load(file), "picks", "three", force=True).version == 2


def test_nobody_with_an_item_left(file):
    (file.parent / "visits.tsv").write_text("a\tx\na\ty\nb\tx\nb\ty\n")
    with pytest.raises(InputError, match="2 users for 'picks', none of whom has an item left"):
        run(file)
    assert Pipeline.load(file).vectors.spaces() == ["club.items", "club.users"]


def test_damage_is_told(file):
    run(file)
    version = picks(file)
    assert not list(verify(version))
    content = bytearray(version.parts[0].read_bytes())
    content[len(content) // 3] ^= 255
    version.parts[0].write_bytes(content)
    assert [finding.problem for finding in verify(version)] == [
        "is not what was written: its bytes have another digest"
    ]
    with pytest.raises(DamagedError, match="cannot be read"):
        version.table()
    pq.write_table(pa.table({"user": ["a"]}), version.parts[0])
    with pytest.raises(DamagedError, match="rows of user; expected"):
        version.table()


def test_old_versions_go(file):
    for number in range(3):
        run(file, f"run{number}", force=True)
    space = Pipeline.load(file).vectors.space("picks")
    gone, garbage = retention.collect(space, Keep(versions=1))
    assert [version.number for version in gone] == [1] and len(garbage) == 1  # 2 is where a rollback leads
    assert [version.number for version in space.versions()] == [2, 3]
    assert by_user(picks(file)) == expected(file)


def test_it_is_no_space_of_vectors(file):
    run(file)
    version = picks(file)
    for ask in (lambda: version.matrix, lambda: version.ids, lambda: version.vectors, version.encoder):
        with pytest.raises(InputError, match="picks @ 1, which holds recommendations; expected vectors"):
            ask()
    with pytest.raises(InputError, match="the column 'vector' of recommendations"):
        list(version.batches(["vector"]))


def test_vectors_and_recommendations_do_not_share_a_name(file):
    run(file)
    text = file.read_text()
    file.write_text(text.replace("  club: {", "  picks: {").replace("  picks: {kind: recommend, space: club", "  club.users: {kind: recommend, space: picks"))  # fmt: skip
    with pytest.raises(ReplacedError, match=r"recommendations for 'club\.users', under which version 1 holds vectors"):
        make_plan(Pipeline.load(file))
    graph = text.replace("outputs:\n  picks: {kind: recommend, space: club, k: 4}\n", "  picks: {dataset: links, embedder: prone, params: {dim: 2}}\n")  # fmt: skip
    file.write_text(graph.replace("spaces:", "  links: {kind: graph, edges: visits.tsv}\nspaces:"))
    with pytest.raises(ReplacedError, match="vectors for 'picks', under which version 1 holds recommendations"):
        make_plan(Pipeline.load(file), replace=True)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("kind: recommend", "kind: index", "7: outputs.picks.kind: index: not available yet. Ask with `polyvec search`."),
        ("kind: recommend", "kind: recomend", "expected 'recommend'"),
        ("space: club", "space: clubs", "Did you mean 'club'?"),
        ("space: club", "space: club.users", "got the space 'club.users'"),
        ("fold_in: 0.2}", "start: {space: club.users}}", "got 'club.users' with 'als', which goes on from the version before by itself"),
        ("k: 4", "depth: 4", "unknown key 'depth'; expected one of k, kind, seen, space"),
        ("k: 4", "k: 0", "greater than or equal to 1"),
        ("k: 4", "seen: hidden", "'filtered' or 'kept'"),
        ("  picks:", "  club.items:", "got 'club.items', which is a space as well"),
        ("  picks:", "  _picks:", "Got the output name '_picks'"),
        ("outputs:", "output:", "Did you mean 'outputs'?"),
    ],
)  # fmt: skip
def test_wrong_entries(file, before, after, says):
    edit(file, before, after)
    with pytest.raises(InputError) as error:
        Pipeline.load(file)
    assert says in str(error.value) and "polyvec.yaml:" in str(error.value)


def test_a_space_without_users_and_items(file):
    edit(
        file,
        "spaces:",
        "  links: {kind: graph, edges: visits.tsv}\nspaces:\n  nodes: {dataset: links, embedder: prone}",
    )
    edit(file, "space: club,", "space: nodes,")
    with pytest.raises(InputError, match="'nodes', of which 'prone' does not learn users and items"):
        Pipeline.load(file)


def test_editors_know_the_section():
    found = schema()["properties"]
    assert "outputs" in found and "derived" not in found


# The command line


def test_the_list_of_one_user(file, cli):
    run(file)
    found = cli("recommend", "club", "user 0", "-k", "3")
    assert found.code == 0
    rows = by_user(picks(file))["user 0"][:3]
    assert [(int(row["rank"]), row["item"]) for row in found.table] == [(rank, item) for rank, item, _ in rows]
    assert [float(row["dot"]) for row in found.table] == pytest.approx([score for *_, score in rows], abs=1e-3)
    told = json.loads(cli("recommend", "club.users@1", "user 0", "-k", "3", "--json").out)
    assert [(one["rank"], one["item"], one["score"]) for one in told] == [
        (rank, item, pytest.approx(score, abs=1e-5)) for rank, item, score in rows
    ]
    assert "'Zoë B' has met every item" in cli("recommend", "club", "Zoë B").err


def test_more_is_asked_for_than_there_is(file, cli):
    run(file)
    answer = cli("recommend", "club", "user 1", "-k", str(10**15), "--json")
    assert answer.code == 0 and len(json.loads(answer.out)) == 12


def test_an_older_version_has_items_of_its_own(file):
    run(file)
    before = module.recommend_to(Pipeline.load(file), "club", "user 0", 5)
    edit(file, "dim: 3", "dim: 2")
    pipeline = Pipeline.load(file)
    steps.embed(pipeline, "club", "two", replace=True)
    now = module.recommend_to(pipeline, "club@latest", "user 0", 5)
    again = module.recommend_to(pipeline, "club@1", "user 0", 5)
    assert (now.users.number, now.items.number, again.users.number, again.items.number) == (2, 2, 1, 1)
    assert again.best == before.best != now.best
    delta.retire(pipeline.vectors.space("club.items").folder, [1])
    with pytest.raises(InputError, match=r"no version of club\.items is left"):
        module.recommend_to(pipeline, "club@1", "user 0", 5)


def test_a_user_without_a_vector(file, cli):
    run(file)
    found = cli("recommend", "club", "user 77")
    assert found.code == 2
    assert "not in the dataset either: add what the user met; then do: polyvec run" in found.err
    assert "fold_in: 0.1 under club" in found.err and "Close ones: user" in found.err
    write_visits(file.parent, "user 77\ttea 1\n")
    assert "is in the dataset by now; then do: polyvec run" in cli("recommend", "club", "user 77").err
    assert (
        "expected an entry of the pipeline file that learns users and items: club" in cli("recommend", "picks", "x").err
    )
    assert cli("recommend", "club@7", "user 0").code == 2


def test_looking_at_it(file, cli):
    said = cli("plan").out
    assert "picks\tclub -> recommend\t\t\t\trecommend\tno version yet" in said
    assert "to run: club.users, club.items, picks" in said
    run(file)
    assert "nothing to do" in cli("plan").out
    assert {row["space"]: row["embedder"] for row in cli("ls").table}["picks"] == "recommend"
    assert cli("files", "picks").out.split() == picks(file).files
    assert "lists:       20 of at most 4 items, dot, one each user" in cli("show", "picks").out
    assert "1 excluded (nothing unseen)" in cli("show", "picks").out
    assert cli("verify").code == 0 and cli("log", "picks").code == 0
    for command in (["search", "picks", "user 0"], ["explain", "picks", "user 0"], ["diff", "picks@1", "picks@1"]):
        found = cli(*command)
        assert found.code == 2 and "which holds recommendations; expected vectors" in found.err
    assert "picks@1" in cli("releases").out
    assert json.loads(cli("plan", "--json").out)[-1] == {
        "name": "picks", "action": "up to date", "reason": "same vectors, same data", "space": "club", "version": 1,
    }  # fmt: skip


@pytest.mark.slow
def test_through_the_flow(file, cli, server):
    found = cli("run")
    assert found.code == 0, found.err
    assert [row["status"] for row in found.table] == ["new"] * 3
    report = next(file.parent.glob("vectors/_reports/*/report.md")).read_text(encoding="utf-8")
    assert "## picks @ 1" in report and "At most 4 items for each of 20 users, nothing unseen left for 1" in report
    assert dict(Pipeline.load(file).vectors.release()) == {"club.users": 1, "club.items": 1, "picks": 1}
    again = cli("run")
    assert "everything is up to date" in again.out and len(again.table) == 3
    edit(file, "k: 4", "k: 2")
    found = cli("run", "--only", "picks")
    assert [(row["space"], row["version"]) for row in found.table] == [
        ("club.users", "1"), ("club.items", "1"), ("picks", "2"),
    ]  # fmt: skip
    assert cli("run", "--only", "club").code == 0
    assert "and the outputs picks" in cli("run", "--only", "picked").err


def test_nothing_heavy_is_loaded_to_look():
    code = (
        "import flows.pipeline, sys; assert not {'scipy', 'numba', 'implicit', 'torch'} & set(sys.modules), sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
