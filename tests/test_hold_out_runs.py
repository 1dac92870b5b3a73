"""Edges held out stay unseen from run to run: what was trained on other contents is not gone on from."""

import numpy as np
import pytest

from embedders.errors import InputError
from flows.pipeline import Pipeline
from flows.plan import make_plan
from tests.helpers_store import edit, run_steps, write_project

PARAMS = {
    "node2vec": "dim: 8, walks: 2, length: 8, window: 2, threads: 1",
    "graphsage": "dim: 8, steps: 2, threads: 1",
}
PIPELINE = """\
store: ./vectors
datasets:
  links: {{kind: graph, edges: links.tsv, hold_out: {{share: 0.2, seed: 3}}}}
  all: {{kind: graph, edges: links.tsv}}
spaces:
  nodes: {{dataset: links, embedder: {kind}, {more}params: {{{params}}}}}
evaluate:
  nodes: [{{name: links, metric: link_prediction}}]
"""


def project(folder, kind, more=""):
    return write_project(folder, PIPELINE.format(kind=kind, more=more, params=PARAMS[kind]))


def latest(file):
    version = Pipeline.load(file).vectors.space("nodes").version("latest")
    return version, dict(zip(version.ids, version.matrix.copy(), strict=True))


@pytest.mark.parametrize("how", ["another draw", "another edge", "from now on"])
@pytest.mark.parametrize(("kind", "more"), [("node2vec", ""), ("node2vec", "fold_in: 0.5, "), ("graphsage", "")])
def test_nothing_is_gone_on_from(tmp_path, kind, more, how):
    files = [project(tmp_path / name, kind, more) for name in ("changed", "new")]
    if how == "from now on":
        edit(files[0], ", hold_out: {share: 0.2, seed: 3}", "")
        edit(files[0], "  nodes: [{name: links, metric: link_prediction}]", "  nodes: []")
    run_steps(files[0])
    for file in files:
        match how:
            case "another draw":
                edit(file, "seed: 3", "seed: 4")
            case "another edge":
                with (file.parent / "links.tsv").open("a") as out:
                    out.write("a0\tb1\nnew\ta0\n")
    if how == "from now on":
        files[0].write_text(files[1].read_text())
    (planned,) = make_plan(Pipeline.load(files[0]), extent=True).spaces
    assert planned.reason == "the dataset changed"
    for file in files:
        run_steps(file)
    (version, found), (_, fresh) = map(latest, files)
    m = version.manifest
    assert (version.number, m.warm_start, m.folded_into, m.counts.reused) == (2, None, None, 0)
    assert found.keys() == fresh.keys()
    assert all(np.array_equal(found[name], row) for name, row in fresh.items())


def test_a_cut_off_version_of_the_same_edges_is_gone_on_from(tmp_path):
    file = project(tmp_path, "graphsage")
    run_steps(file)
    version, before = latest(file)
    next(iter((tmp_path / "vectors" / "nodes").rglob("*.parquet"))).unlink()
    run_steps(file)
    again, after = latest(file)
    assert again.manifest.model == version.manifest.model
    assert all(np.array_equal(after[name], row) for name, row in before.items())


@pytest.mark.parametrize("by_way", [False, True])
def test_a_start_that_may_have_seen_them(tmp_path, by_way):
    file = project(tmp_path, "node2vec", "start: {space: known}, ")
    known = "known: {{dataset: {}, embedder: node2vec, {}params: {{{}}}}}\n"
    more = known.format("links", "start: {space: first}, ", PARAMS["node2vec"]) if by_way else ""
    first = known.replace("known", "first") if by_way else known
    edit(file, "evaluate:", "  " + more + "  " * by_way + first.format("all", "", PARAMS["node2vec"]) + "evaluate:")
    name = "first" if by_way else "known"
    with pytest.raises(InputError, match=f"nodes begins at '{name}', a space of the graph 'all', which may have seen"):
        Pipeline.load(file)
    edit(file, "dataset: all", "dataset: links")
    Pipeline.load(file)
