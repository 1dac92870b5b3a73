"""The steps of a pipeline called as plain functions, without Prefect: the baseline of `orchestration.py`."""

from __future__ import annotations

import sys
import uuid

from flows.pipeline import Pipeline
from flows.report import Row, write_report
from flows.steps import embed, evaluate_space


def main(file: str) -> None:
    """Embed and evaluate every space in the file's order, then write the run's report."""
    pipeline, run, rows = Pipeline.load(file), uuid.uuid4().hex[:8], []
    made = (version for name in pipeline.spaces for version in embed(pipeline, name, run).values())
    for version in made:
        scores = [evaluate_space(pipeline, version, wanted.name) for wanted in pipeline.evaluations(version.space)]
        rows.append(Row.of(version, scores))
        print(version.model_dump_json(), *[score.model_dump_json() for score in scores], sep="\n")
    write_report(pipeline, run, rows)


if __name__ == "__main__":
    main(sys.argv[1])
