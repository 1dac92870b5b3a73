"""Commands that look back: log, diff, explain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.ask import K
from flows.cli.common import DEFAULT_FILE, File, Json, load_store, print_json, print_table, say, size
from flows.cli.look import Reference

if TYPE_CHECKING:
    from storage.space import Version


def log(
    space: Annotated[str, typer.Argument(metavar="SPACE", help="A space.")],
    file: File = DEFAULT_FILE,
    as_json: Json = False,
) -> None:
    """List the versions of a space, newest first: what changed, and what each added."""
    from embedders.errors import InputError
    from flows.history import log_lines
    from storage.releases import read

    if "@" in space:
        raise InputError(
            f"Got {space!r}; expected a space without a version. Do: polyvec log {space.partition('@')[0]}"
        )
    store = load_store(file)
    store.find(f"{space}@latest")  # says what there is where it is not
    lines = log_lines(store.space(space).versions(), read(store.paths).holding(space))[::-1]
    if as_json:
        print_json(lines)
        return
    rows = [
        [
            str(one["version"]), f"{one['created']:%Y-%m-%d %H:%M}", one["run"], f"{one['rows']:,}", f"{one['embedded']:,}",
            f"{one['reused']:,}", f"{one['quarantined']:,}", one["change"], f"{one['seconds']:.1f}",
            "" if one["bytes_added"] is None else size(one["bytes_added"]), one["released"],
        ]
        for one in lines
    ]  # fmt: skip
    counts = ["rows", "embedded", "reused", "quarantined"]
    columns = ["version", "created (UTC)", "run", *counts, "change", "seconds", "added", "released"]
    print_table(columns, rows, ["version", *counts, "seconds", "added"])


def diff(
    before: Annotated[str, typer.Argument(metavar="SPACE@A", help="The version to start from.")],
    after: Annotated[str, typer.Argument(metavar="SPACE@B", help="The version to compare it with.")],
    k: Annotated[int, typer.Option("-k", min=0, help="How many ids to list of each sort.")] = 10,
    file: File = DEFAULT_FILE,
    as_json: Json = False,
) -> None:
    """Compare two versions of a space: rows that came, went and changed, and how far these moved."""
    from flows.history import compared
    from storage.history import diff as compare

    store = load_store(file)
    found = compare(store.find(before), store.find(after))
    answer = compared(found, k)
    if as_json:
        print_json(answer)
        return
    say(f"{answer['space']} @ {answer['before']} -> {answer['space']} @ {answer['after']}")
    facts = {"changes": str(found.changes)} | _difference(answer, found.turned)
    for key, value in facts.items():
        say(f"{key + ':':<13} {value}")
    if answer["rows"]:
        say()
        numbers = [name for name in ("displacement", "aligned") if answer[name]]
        columns = ["row", "id", *numbers]
        print_table(columns, [[_cell(row.get(name)) for name in columns] for row in answer["rows"]], numbers)


def _difference(answer: Mapping[str, Any], turned: bool) -> dict[str, str]:
    raw, aligned, measure = answer["displacement"], answer["aligned"], answer["measure"]
    facts = {
        "rows": f"{answer['rows_before']:,} -> {answer['rows_after']:,}: {answer['added']:,} added, {answer['removed']:,} removed, "
        f"{answer['changed']:,} of {answer['common']:,} common ones changed"
    }  # fmt: skip
    if not answer["changed"]:
        return facts
    if raw is None:
        return facts | {"displacement": "none: vectors of different dimensions cannot be compared"}
    facts["displacement"] = (
        f"{measure}, mean {raw['mean']:.4g} and largest {raw['largest']:.4g} of the changed rows; mean of the common rows {raw['mean_of_common']:.4g}"
    )
    moved = f"{answer['moved']:,} rows moved though their contents did not change or are not known"
    if aligned:
        facts["aligned"] = (
            f"{measure}, mean {aligned['mean']:.4g} and largest {aligned['largest']:.4g} of the changed rows; {aligned['chance']:.4g} by chance"
        )
        facts["note"] = (
            f"{moved}: the space was learned anew, and learning may turn it as a whole, which changes no neighbour. aligned = what "
            "is left after the rigid motion that fits them best (orthogonal Procrustes); by chance = the same for rows paired at random"
        )
    elif turned:
        facts["note"] = (
            f"{moved}: the space was learned anew, and learning may turn it as a whole, which changes no neighbour. They are "
            "too few for its dimension to take that turn out, so the displacement may be nothing else"
        )
    return facts


def explain(
    reference: Reference,
    id: Annotated[str, typer.Argument(metavar="ID", help="An id that the space holds or once held.")],
    k: K = 5,
    file: File = DEFAULT_FILE,
    as_json: Json = False,
) -> None:
    """Say where a row comes from, when it changed and how far, and its neighbours then and now; latest without @V."""
    from flows.history import explained
    from storage.history import row_history

    store = load_store(file)
    space, _, which = reference.partition("@")
    asked = store.find(f"{space}@{which or 'latest'}")
    history = row_history([v for v in store.space(space).versions() if v.number <= asked.number], id)
    refused = [row for row in store.quarantine(asked) if row["id"] == id]
    if history.last is None and not refused:
        raise _unknown(asked, id)
    answer = explained(history, refused, k)
    if as_json:
        print_json(answer)
        return
    for key, value in _facts(answer).items():
        say(f"{key + ':':<8} {value}")
    if events := answer["history"]:
        say()
        rows = [
            [str(one["version"]), f"{one['created']:%Y-%m-%d %H:%M}", one["run"], one["what"], _cell(one["displacement"]), one["why"]]
            for one in events
        ]  # fmt: skip
        measure = answer["measure"]
        print_table(["version", "created (UTC)", "run", "what", measure, "why"], rows, ["version", measure])
        if any(one["space_moved"] for one in events):
            say(
                "(the space was learned anew, and learning may turn it as a whole, which changes no neighbour; polyvec diff tells more)"
            )
    _print_neighbours(answer)


def _unknown(version: Version, id: str) -> Exception:
    import difflib

    from embedders.errors import InputError

    m = version.manifest
    close = difflib.get_close_matches(id, version.ids[:100_000].tolist(), 5)
    hint = f" Close ones: {', '.join(map(repr, close))}." if close else ""
    return InputError(
        f"Got {id!r}, which was no id of {m.space} up to version {m.version} and is not in its quarantine; expected an id "
        f"such as the {len(version):,} of {m.space} @ {m.version}.{hint}"
    )


def _facts(answer: Mapping[str, Any]) -> dict[str, str]:
    here = f"{answer['space']} @ {answer['version']}"
    if answer["held"]:
        state = f"held by {here}"
    elif answer["last_held"]:
        state = f"not in {here}; the last version that holds it is {answer['last_held']}"
    else:
        state = f"not in {here}, nor in an older version"
    facts = {"id": repr(answer["id"]), "state": state}
    if made := answer["made"]:
        recipe = made["recipe"]
        facts |= {
            "origin": answer["origin"],
            "digest": answer["digest"] or "none: the vector depends on the whole dataset",
            "made": f"in version {made['version']}, {made['created']:%Y-%m-%d %H:%M:%S} UTC, by run {made['run']}"
            + (", or in an older version that was taken out" if made["or_before"] else ""),
            "recipe": f"{recipe['kind']} v{recipe['version']}, fingerprint {made['fingerprint']}",
            "params": ", ".join(f"{key}={value}" for key, value in recipe["params"].items()),
        }
    for row in answer["quarantine"]:
        facts[f"quarantine @ {row['version']}"] = f"{row['code']}: {row['message']} ({row['location']})"
    return facts


def _print_neighbours(answer: Mapping[str, Any]) -> None:
    """Both lists side by side; one of them where there is no other."""
    lists = [(when, found) for when, found in answer["neighbours"].items() if found and found["ids"]]
    if not lists:
        return
    columns, numbers = [], []
    for when, found in lists:
        columns += [f"neighbours {when}, @ {found['version']}", f"{answer['similarity']} {when}"]
        numbers.append(columns[-1])
    rows = [
        [cell for _, found in lists for cell in _neighbour(found["ids"], i)]
        for i in range(max(len(found["ids"]) for _, found in lists))
    ]
    say()
    print_table(columns, rows, numbers)
    if len(lists) == 2:
        then, now = ({one["id"] for one in found["ids"]} for _, found in lists)
        say(f"{len(then & now)} of {len(now)} neighbours are the same")


def _neighbour(ids: list[dict[str, Any]], i: int) -> list[str]:
    return [ids[i]["id"], f"{ids[i]['score']:.4f}"] if i < len(ids) else ["", ""]


def _cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.4g}"
