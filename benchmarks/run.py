"""Run all benchmarks, or some: `python -m benchmarks.run [NAME ...] [--small] [--full]`, with the names of `NAMES`.

Each runs in a process of its own, one after the other. Results are JSON in benchmarks/results; `--markdown` prints the
table of what is there and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.common import Row

NAMES = (
    "text",
    "glove",
    "corpus",
    "finetune",
    "judging",
    "walks",
    "graph",
    "tables",
    "images",
    "image_training",
    "fusion",
    "interactions",
    "store",
    "versions",
    "orchestration",
    "incremental",
)


def found(folder: Path) -> list[dict[str, Any]]:
    """The results that lie in a folder, in the order of `NAMES`; other runs of the same benchmark follow it."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    order = {name: place for place, name in enumerate(NAMES)}
    return sorted(results, key=lambda result: (order.get(result["name"].split("-")[0], len(NAMES)), result["name"]))


def rows(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """All comparisons as columns of `common.HEADER`."""
    return [common.cells(row) for result in results for row in map(as_row, result["rows"])]


def as_row(saved: Mapping[str, Any]) -> Row:
    return Row(**{name: value for name, value in saved.items() if name != "ratio"})


def described(result: Mapping[str, Any]) -> str:
    """Where and when a result was measured."""
    machine, size = result["machine"], ", --small: not worth quoting" if result["small"] else ""
    flags = ", ".join(machine["flags"])
    libraries = ", ".join(f"{name} {number}" for name, number in machine["libraries"].items())
    return (
        f"{result['name']}: {result['created']}, {machine['cpu']} (family {machine['family']}), {machine['cores']} cores, "
        f"{machine['memory_gib']:.0f} GiB, {flags}; load before {result['load']['before'][0]}; Python {machine['python']}, {libraries}{size}"
    )


def markdown(folder: Path) -> str:
    """The results as Markdown: the table, the notes, and what they were measured on."""
    results = found(folder)
    if not results:
        return f"No results in {common.shown(folder)} yet; run `make bench`."
    notes = [f"- {result['name']}: {note}" for result in results for note in result["notes"]]
    measured = [f"- {described(result)}" for result in results]
    return "\n".join([common.markdown(common.HEADER, rows(results)), "", *notes, "", "Measured:", "", *measured])


def run(name: str, options: argparse.Namespace) -> int:
    """One benchmark in a process of its own; its exit code."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--peers", str(options.peers), "--results", str(options.results)]  # fmt: skip
    command += [f"--{flag}" for flag in ("small", "full") if getattr(options, flag)]
    print(f"== {name}", flush=True)
    return subprocess.run(command, cwd=common.REPO).returncode


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)}; all when none is named")
    parser.add_argument("--markdown", action="store_true", help="print the results that are there, measure nothing")
    options = parser.parse_args()
    options.peers, options.results = options.peers.absolute(), options.results.absolute()
    if unknown := [name for name in options.names if name not in NAMES]:
        parser.error(f"got {', '.join(unknown)}; expected some of {', '.join(NAMES)}")
    if options.markdown:
        print(markdown(options.results))
        return
    failed = [name for name in options.names or NAMES if run(name, options)]
    results = found(options.results)
    print(f"\n== all results in {common.shown(options.results)}")
    print(common.table(common.HEADER, rows(results)))
    for result in results:
        print(f"  {described(result)}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
