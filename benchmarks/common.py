"""What the benchmarks share: options, interleaved rounds, the machine, peers as subprocesses, results as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

REPO = Path(__file__).resolve().parents[1]
PEERS = Path(__file__).resolve().parent / "peers"
LIBRARIES = ("polyvec", "numpy", "numba", "pyarrow", "deltalake", "prefect", "torch", "pillow")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


class SkippedError(Exception):
    """A benchmark or a peer cannot run here, and that is no failure; the message says what is missing."""


@dataclass(frozen=True)
class Row:
    """One comparison. unit: "s" is better when lower, everything else when higher; quality: scores beside the speed."""

    what: str
    unit: str
    ours: float
    peer: float | None = None
    against: str = ""
    quality: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better ours is."""
        if not self.peer or not self.ours:
            return None
        return self.peer / self.ours if self.unit == "s" else self.ours / self.peer


@dataclass(frozen=True)
class Result:
    """What a benchmark found. settings: what was asked for; runs: every single measurement, so that nothing is hidden."""

    name: str
    rows: Sequence[Row]
    settings: Mapping[str, Any]
    runs: Mapping[str, Any]
    notes: Sequence[str] = ()


def arguments(about: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a few seconds, to see that it works; not worth quoting")
    parser.add_argument("--full", action="store_true", help="also what takes a peer a minute and more")
    parser.add_argument("--peers", type=Path, default=REPO / ".venv-peers/bin/python", help="the peers' interpreter")
    parser.add_argument("--results", type=Path, default=REPO / "benchmarks/results", help="where the JSON goes")
    return parser


def run(name: str, measure: Callable[[argparse.Namespace], Result], options: argparse.Namespace) -> None:
    """Measure, print the table and keep the JSON; a benchmark without its data says so and ends well."""
    before, started = load(), time.perf_counter()
    try:
        result = measure(options)
    except SkippedError as reason:
        print(f"{name}: skipped: {reason}")
        return
    seconds = time.perf_counter() - started
    path = save(result, options, before, seconds)
    print()
    print(table(HEADER, [cells(row) for row in result.rows]))
    for note in result.notes:
        print(f"  {note}")
    print(f"{name}: {seconds:.0f} s; written to {shown(path)}")


def shown(path: Path) -> str:
    """A path, relative to the repository where it can be."""
    return str(path.relative_to(REPO)) if path.is_relative_to(REPO) else str(path)


def save(result: Result, options: argparse.Namespace, before: Sequence[float], seconds: float) -> Path:
    """Write `<results>/<name>.json`."""
    options.results.mkdir(parents=True, exist_ok=True)
    path: Path = options.results / f"{result.name}.json"
    content = {
        "name": result.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "small": options.small,
        "machine": machine(),
        "load": {"before": list(before), "after": list(load())},
        "seconds": round(seconds, 1),
        "settings": result.settings,
        "rows": [asdict(row) | {"ratio": row.ratio} for row in result.rows],
        "notes": list(result.notes),
        "runs": result.runs,
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def data(folder: str) -> Path:
    """A folder of the real data.

    Raises
    ------
    SkippedError : it is not there.
    """
    root = Path(os.environ.get("POLYVEC_DATA", REPO.parent / "shared/data"))
    if not (root / folder).is_dir():
        raise SkippedError(f"got no data {folder!r} in {str(root)!r}; set POLYVEC_DATA to the folder that holds it.")
    return root / folder


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> tuple[float, ...]:
    """Load averages of 1, 5 and 15 minutes; a calm machine starts near 0."""
    return tuple(round(value, 2) for value in os.getloadavg()) if hasattr(os, "getloadavg") else ()


def machine() -> dict[str, Any]:
    """What it ran on: processor, cores, memory, the instruction sets that matter, libraries."""
    info = _cpuinfo()
    flags = set(info.get("flags", "").split())
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "cpu": info.get("model name", platform.processor() or platform.machine()),
        "family": f"{info.get('cpu family', '?')}/{info.get('model', '?')}",
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "flags": [flag for flag in FLAGS if flag in flags],
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "libraries": found,
    }


def _cpuinfo() -> dict[str, str]:
    """Linux' words about the first core; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    first = path.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}


def seconds(function: Callable[[], Any]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def interleaved(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure A B C, A B C, ...: a slow minute of the machine then hits all of them. Each call returns its own number.

    >>> interleaved({"a": lambda: 1.0, "b": lambda: 2.0}, 2)
    {'a': [1.0, 1.0], 'b': [2.0, 2.0]}
    """
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            found[name].append(measure())
    return found


def medians(runs: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each."""
    return {name: float(median(values)) for name, values in runs.items() if values}


def peer(options: argparse.Namespace, script: str, message: Mapping[str, Any]) -> dict[str, Any] | None:
    """Run `peers/<script>` in the peers' environment: JSON in on stdin, JSON out on the last line of stdout.

    Returns
    -------
    Its answer; None, with a line that says so, when there is no such environment.

    Raises
    ------
    RuntimeError : the peer failed; its last words are in the message.
    """
    if not options.peers.is_file():
        print(f"  peer skipped: no interpreter at {shown(options.peers)}; run `make bench`, or name one with --peers")
        return None
    command = [str(options.peers), str(PEERS / script)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "NUMBA_NUM_THREADS": str(cores())}
    done = subprocess.run(command, input=json.dumps(message), capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"The peer {script} failed with code {done.returncode}:\n{done.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


HEADER = ("what", "ours", "peer", "ratio", "quality beside")


def cells(row: Row) -> tuple[str, ...]:
    """A comparison as the columns of `HEADER`."""
    against = f"{amount(row.peer, row.unit)} ({row.against})" if row.peer else (row.against or "-")
    ratio = f"{row.ratio:.3g}x" if row.ratio else "-"
    return row.what, amount(row.ours, row.unit), against, ratio, row.quality


def amount(value: float, unit: str) -> str:
    """A number to three digits with its unit.

    >>> amount(2_345_678, "words/s"), amount(0.0421, "s")
    ('2.35 M words/s', '0.0421 s')
    """
    for scale, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= scale and unit != "s":
            return f"{value / scale:.3g}{letter} {unit}"
    return f"{value:.3g} {unit}" if abs(value) < 1000 else f"{value:,.0f} {unit}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to the same width."""
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    padded = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([padded[0], "  ".join("-" * width for width in widths), *padded[1:]])


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""The same as a Markdown table.

    >>> print(markdown(["a"], [["1 | 2"]]))
    | a |
    | --- |
    | 1 \| 2 |
    """
    lines = [header, ["---"] * len(header), *[[cell.replace("|", "\\|") for cell in row] for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def say(text: str) -> None:
    """A line about what is going on."""
    print(f"  {text}", file=sys.stderr, flush=True)
