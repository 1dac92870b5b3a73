"""Commands that keep a store in order: verify, gc."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.common import DEFAULT_FILE, File, Json, load, load_store, print_json, print_table, say, size

if TYPE_CHECKING:
    from flows.pipeline import Pipeline
    from storage.retention import Garbage, Keep
    from storage.space import Version
    from storage.store import VectorStore
    from storage.verify import Sample

# verify


@dataclass
class Checked:
    """What was found of a version. skipped: why it was not sampled."""

    version: Version
    findings: list[dict[str, str]] = field(default_factory=list)
    sample: Sample | None = None
    skipped: str = ""

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        m = self.version.manifest
        sample = self.sample and {
            "rows": self.sample.rows, "same_bits": self.sample.same, "largest_difference": self.sample.worst,
            "smallest_cosine": self.sample.cosine, "lost": list(self.sample.lost),
        }  # fmt: skip
        return {
            "space": m.space, "version": m.version, "rows": m.counts.rows, "files": len(m.files) + len(m.model_files),
            "bytes": sum(entry.size for entry in m.files), "findings": self.findings, "sample": sample,
            "not_sampled": self.skipped or None,
        }  # fmt: skip

    def row(self) -> list[str]:
        """For people."""
        one = self.as_json()
        told = f"{self.sample.same:,} of {self.sample.rows:,} the same bits" if self.sample else ""
        return [
            one["space"], str(one["version"]), f"{one['rows']:,}", str(one["files"]), size(one["bytes"]), told,
            f"{len(self.findings)} findings" if self.findings else "fine",
        ]  # fmt: skip


def verify(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="[SPACE[@V]]",
            help="A space or one of its versions. Without @V, those that readers get: production's and the newest; without SPACE, of every space.",
        ),
    ] = "",
    every: Annotated[bool, typer.Option("--all", help="All versions instead.")] = False,
    sample: Annotated[
        int, typer.Option("--sample", min=0, help="Also embed so many rows of each version again, and compare.")
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Chooses these rows.")] = 0,
    file: File = DEFAULT_FILE,
    as_json: Json = False,
) -> None:
    """Compare every file with its digest, the parts with the log, the rows with the counts; exit code 1 if damaged."""
    from storage.errors import DamagedError
    from storage.verify import verify as look

    pipeline = load(file) if sample else None
    store = pipeline.vectors if pipeline else load_store(file)
    versions, lost = _asked(store, reference, every=every)
    seen: dict[str, str] = {}
    checked = []
    for version in versions:
        one = Checked(version, [vars(finding) for finding in look(version, seen)])
        if one.findings and _is_gone(version):
            continue  # taken out since the versions were listed
        checked.append(one)
        if pipeline and not one.findings:
            _sample(pipeline, one, sample, seed, named=bool(reference))
    findings = lost + [finding for one in checked for finding in one.findings]
    if as_json:
        print_json({"versions": [one.as_json() for one in checked], "findings": findings})
    elif not checked and not findings:
        say(f"no space in {store.root} yet; do: polyvec run")
    else:
        _print_checked(checked, findings, sampled=sample > 0)
    if findings:
        places = [f"{one.version.manifest.space}@{one.version.number}" for one in checked if one.findings]
        raise DamagedError(
            f"Got damage in {', '.join([one['place'] for one in lost] + places)}; expected what was written. Restore the files "
            "from a copy, or run the pipeline with --force."
        )


def _print_checked(checked: Sequence[Checked], findings: Sequence[dict[str, str]], *, sampled: bool) -> None:
    columns = ["space", "version", "rows", "files", "size", "embedded again", "result"]
    shown = [name for name in columns if sampled or name != "embedded again"]
    rows = [dict(zip(columns, one.row(), strict=True)) for one in checked]
    print_table(shown, [[row[name] for name in shown] for row in rows], ["version", "rows", "files", "size"])
    for one in checked:
        if one.skipped:
            say(f"{one.version.manifest.space}@{one.version.number}: not embedded again. {one.skipped}")
    for place, problem in dict.fromkeys(
        (finding["place"], finding["problem"]) for finding in findings
    ):  # versions share files
        say(f"{place}: {problem}")


def _asked(store: VectorStore, reference: str, *, every: bool) -> tuple[list[Version], list[dict[str, str]]]:
    """The versions to look at: those that readers get, or all; and what is wrong with logs that do not tell them."""
    from embedders.errors import InputError
    from storage.errors import DamagedError, NotFoundError

    name, _, which = reference.partition("@")
    if which and every:
        raise InputError(f"Got --all and {reference!r}; expected a space without a version. Leave one of them out.")
    if which or (name and name not in store.spaces()):
        return [store.find(reference)], []  # says what there is where it is not
    production = store.release() or {}
    found: list[Version] = []
    lost: list[dict[str, str]] = []
    for space in map(store.space, [name] if name else sorted({*store.spaces(), *production})):
        try:
            if every:
                found += space.versions()
            else:
                latest = space.version("latest")
                released = production.get(space.name, latest.number)
                found += [latest] if released == latest.number else [space.version(released), latest]
        except (DamagedError, NotFoundError) as error:
            lost.append({"place": space.name, "problem": str(error)})
    return found, lost


def _is_gone(version: Version) -> bool:
    from storage import delta

    return version.number in delta.retired(version.paths.space(version.manifest.space))


def _sample(pipeline: Pipeline, one: Checked, rows: int, seed: int, *, named: bool) -> None:
    """Embed rows of a version again; where that cannot be, say so if the space was named, else note it."""
    from embedders.errors import InputError
    from storage.digests import DigestCache
    from storage.errors import DamagedError
    from storage.verify import check_inductive, resample, sample_problem

    name = one.version.manifest.space
    try:
        check_inductive(one.version)
        if name not in pipeline.entries:
            raise InputError(
                f"Got a sample of {name!r}, which is not in the pipeline file; expected one of {', '.join(pipeline.entries)}. Leave --sample out."
            )
        dataset = pipeline.dataset(name)
        cache = pipeline.vectors.paths.cache
        data = dataset.read(dataset.scan(pipeline.base, DigestCache(cache)), pipeline.recipe(name).data, cache=cache)
        one.sample = resample(one.version, data, rows, seed=seed)
        problem = sample_problem(one.version, one.sample)
    except DamagedError as error:
        problem = str(error)
    except InputError as error:
        if named:
            raise
        one.skipped, problem = str(error), ""
    if problem:
        one.findings.append({"place": f"{name}@{one.version.number}", "problem": problem})


# gc


def gc(
    space: Annotated[str, typer.Argument(metavar="[SPACE]", help="Only this space; default: all of the store.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, say what would go.")] = False,
    file: File = DEFAULT_FILE,
    as_json: Json = False,
) -> None:
    """Take out the versions that `keep:` of the pipeline file does not keep, and clear away what no version needs.

    Versions that a release needs always stay: production's, the one a rollback leads to, those of every other name and
    of the newest release.
    """
    from storage import retention
    from storage.errors import BusyError, DamagedError, FullError, NotFoundError

    pipeline = load(file)
    paths, keep = pipeline.vectors.paths, pipeline.kept
    names = retention.spaces_ever(paths)
    if space and space not in names:
        raise NotFoundError(f"Got space {space!r}, which is not in {paths.root}. Spaces there: {', '.join(names)}.")
    lines: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    strangers: list[str] = []
    for name in [space] if space else names:
        try:
            one = pipeline.vectors.space(name)
            here = name in {*pipeline.entries, *pipeline.derived}  # `keep:` is said of the spaces of its file
            gone, found = retention.collect(one, keep if here else None, abandoned=not here, dry_run=dry_run)
            strangers += [name] if keep and not here else []
            lines += _lines(name, gone, found, keep)
        except (BusyError, DamagedError, FullError) as error:
            skipped[name] = str(error)
    if not space:
        lines += _lines("", [], retention.collect_logs(paths, dry_run=dry_run), keep)
    if as_json:
        print_json({"dry_run": dry_run, "keep": keep and vars(keep), "gone": lines, "skipped": skipped})
    else:
        _print_lines(lines, skipped, keep, dry_run=dry_run)
        if strangers:
            say(f"not in this pipeline file, so that all of their versions stay: {', '.join(strangers)}")


def _lines(name: str, gone: Sequence[Version], found: Sequence[Garbage], keep: Keep | None) -> list[dict[str, Any]]:
    """A line for each version that goes, and one for each other sort of file."""
    why = {version.number: f"keep: {keep}; no release needs it" for version in gone}
    sorts: dict[tuple[int | None, str], list[int]] = {(number, text): [] for number, text in why.items()}
    for one in found:
        text = "taken out before" if one.version else one.why
        sorts.setdefault((one.version, why.get(one.version or 0, text)), []).append(one.size)
    return [
        {"space": name, "version": number, "why": text, "files": len(sizes), "bytes": sum(sizes)}
        for (number, text), sizes in sorts.items()
    ]


def _print_lines(lines: Sequence[dict[str, Any]], skipped: dict[str, str], keep: Keep | None, *, dry_run: bool) -> None:
    if lines:
        rows = [
            [one["space"], str(one["version"] or ""), str(one["files"]), size(one["bytes"]), one["why"]]
            for one in lines
        ]
        print_table(["space", "version", "files", "size", "why"], rows, ["version", "files", "size"])
    for name, why in skipped.items():
        say(f"{name}: skipped. {why}")
    if keep is None:
        say("there is no keep: in the pipeline file, so all versions stay")
    files, total = sum(one["files"] for one in lines), size(sum(one["bytes"] for one in lines))
    if lines:
        say(f"{'would free' if dry_run else 'freed'} {total} in {files:,} files")
    else:
        say("nothing to clear away")
