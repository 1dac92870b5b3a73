"""Commands that move names: releases, promote, rollback."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.common import DEFAULT_FILE, File, Json, load_store, print_json, print_table, say

if TYPE_CHECKING:
    from storage.releases import Move, State
    from storage.store import VectorStore

Name = Annotated[str, typer.Option("--name", help="The name to move.")]
Expect = Annotated[
    int | None, typer.Option("--expect", min=0, help="Move only if the name points at this release now (0: at none).")
]
Why = Annotated[str, typer.Option("--why", help="The reason, for the record.")]


def releases(
    file: File = DEFAULT_FILE,
    moves: Annotated[bool, typer.Option("--moves", help="List the moves of names instead.")] = False,
    as_json: Json = False,
) -> None:
    """List the releases, newest first, and which names point at them; --moves: who moved a name, when, why."""
    from storage.releases import read

    store = load_store(file)
    state = read(store.paths)
    found = _moves(state) if moves else _releases(state)
    if as_json:
        print_json([one | {"time": one["time"].isoformat()} for one in found])
    elif found:
        columns = list(found[0])
        rows = [[_cell(value) for value in one.values()] for one in found]
        print_table([_HEAD.get(name, name) for name in columns], rows, ["release", "from", "to"])
    else:
        say(f"no {'move' if moves else 'release'} in {store.root} yet; do: polyvec run")


_HEAD = {"time": "time (UTC)"}


def _releases(state: State) -> list[dict[str, Any]]:
    return [
        {
            "release": one.number, "time": one.time, "run": one.run, "spaces": dict(one.spaces), "who": one.who,
            "why": one.why, "names": state.names(one.number),
        }
        for one in reversed(state.releases)
    ]  # fmt: skip


def _moves(state: State) -> list[dict[str, Any]]:
    return [
        {"time": one.time, "name": one.name, "from": one.previous, "to": one.release, "who": one.who, "why": one.why}
        for one in reversed(state.moves)
    ]


def _cell(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{space}@{version}" for space, version in value.items())
        case list():
            return ", ".join(value)
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
    return "" if value is None else str(value)


def promote(
    release: Annotated[
        str, typer.Argument(metavar="[RELEASE]", help="Its number, or a name that points at it; default: the newest.")
    ] = "",
    name: Name = "production",
    expect: Expect = None,
    why: Why = "",
    file: File = DEFAULT_FILE,
) -> None:
    """Point `production`, or another name, at a release."""
    from storage.releases import read

    store = load_store(file)
    state = read(store.paths)
    number = int(release) if release.isdecimal() else state.named(release).number if release else state.release().number
    _tell(store, state, store.promote(number, name=name, expected=expect, why=why))


def rollback(
    name: Name = "production",
    expect: Expect = None,
    why: Why = "",
    file: File = DEFAULT_FILE,
) -> None:
    """Point `production`, or another name, at the release that it left last."""
    from storage.releases import read

    store = load_store(file)
    state = read(store.paths)
    _tell(store, state, store.rollback(name=name, expected=expect, why=why))


def _tell(store: VectorStore, before: State, move: Move) -> None:
    from storage.releases import read

    release = read(store.paths).release(move.release)
    if move in before.moves:
        say(f"{move.name} points at release {release.number} already: {release}")
    else:
        say(f"{move.name}: release {move.previous or 'none'} -> {release.number}: {release}")
