"""The steps of a pipeline called as plain functions, without Prefect: the baseline of `orchestration.py`."""

from __future__ import annotations

import sys
import uuid

from flows.pipeline import Pipeline
from flows.report import Row, write_report
from flows.steps import embed_space, evaluate_space


def main(file: str) -> None:
    """Embed and evaluate every space in the file's order, then write the run's report."""
    pipeline, run, rows = Pipeline.load(file), uuid.uuid4().hex[:8], []
    for name in pipeline.spaces:
        version = embed_space(pipeline, name, run)
        scores = [evaluate_space(pipeline, version, wanted.name) for wanted in pipeline.evaluate.get(name, [])]
        rows.append(Row.of(version, scores))
        print(version.model_dump_json(), *[score.model_dump_json() for score in scores], sep="\n")
    write_report(pipeline, run, rows)


if __name__ == "__main__":
    main(sys.argv[1])
