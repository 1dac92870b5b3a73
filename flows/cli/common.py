"""What the commands share: options, the console, tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from flows.pipeline import Pipeline
    from storage.store import VectorStore

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

File = Annotated[Path, typer.Option("--file", "-f", help="The pipeline file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
DEFAULT_FILE = Path("polyvec.yaml")


class Settings:
    """What the options before the command said."""

    debug = False


settings = Settings()


def load(file: Path) -> Pipeline:
    """The pipeline of a command."""
    from flows.pipeline import Pipeline

    return Pipeline.load(file)


def load_store(file: Path) -> VectorStore:
    """The store of a command that only reads."""
    from flows.pipeline import load_store

    return load_store(file)


@contextmanager
def shown_board() -> Iterator[Any]:
    """Bars on a terminal, plain lines elsewhere; both on stderr."""
    from flows.progress import Bars, Lines

    if err.is_terminal:
        with Bars(err) as bars:
            yield bars
    else:
        yield Lines(lambda text: err.print(text, markup=False, soft_wrap=True))


def say(text: str = "") -> None:
    """Print text as it is."""
    out.print(text, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as JSON, never wrapped."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str] = ()) -> None:
    """A table: drawn on a terminal, tabs between fields elsewhere."""
    if not out.is_terminal:
        for row in [columns, *rows]:
            typer.echo("\t".join(" ".join(field.split()) for field in row))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(field) for field in row))
    out.print(table)


def size(n: float) -> str:
    """Bytes for people.

    >>> size(1536)
    '1.5 KB'
    """
    for unit in ("B", "KB", "MB", "GB"):
        if n < 1024 or unit == "GB":
            return f"{n:.0f} B" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    raise AssertionError
