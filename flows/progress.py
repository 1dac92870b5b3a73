"""Progress of a run's steps: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from embedders.base import Progress as Callback

LINE_EVERY = 10.0  # seconds between two plain lines about one step


class Board:
    """Where steps report. A stopped board makes the next report raise KeyboardInterrupt, which ends the step."""

    def __init__(self) -> None:
        self.stopped = threading.Event()

    def say(self, text: str) -> None:
        """A line worth reading."""

    @contextmanager
    def step(self, name: str) -> Iterator[Callback]:
        """A step that begins now and ends with the block; it is given a callback for its progress."""
        update = self._begin(name)

        def progress(done: float, total: float, unit: str) -> None:
            if self.stopped.is_set():
                raise KeyboardInterrupt
            update(done, total, unit)

        started = time.monotonic()
        try:
            yield progress
        except BaseException as error:
            self._end(name, f"failed after {time.monotonic() - started:.1f} s ({type(error).__name__})")
            raise
        self._end(name, f"done in {time.monotonic() - started:.1f} s")

    def _begin(self, name: str) -> Callable[[float, float, str], None]:
        return lambda done, total, unit: None

    def _end(self, name: str, text: str) -> None:
        pass


class Lines(Board):
    """Plain lines: the beginning and end of each step, and how far the long ones are."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write

    def say(self, text: str) -> None:
        self._write(text)

    def _begin(self, name: str) -> Callable[[float, float, str], None]:
        last = time.monotonic()

        def update(done: float, total: float, unit: str) -> None:
            nonlocal last
            if time.monotonic() - last >= LINE_EVERY:
                last = time.monotonic()
                self._write(f"{name}: {_amount(done, total, unit)}")

        return update

    def _end(self, name: str, text: str) -> None:
        self._write(f"{name}: {text}")


class Bars(Board):
    """Rich progress bars."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._bars = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[amount]}", markup=False),
            TimeElapsedColumn(),
            console=console,
        )

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def _begin(self, name: str) -> Callable[[float, float, str], None]:
        bar = self._bars.add_task(name, total=None, amount="")
        started = time.monotonic()
        self._ids = {**getattr(self, "_ids", {}), name: bar}

        def update(done: float, total: float, unit: str) -> None:
            rate = done / max(1e-9, time.monotonic() - started)
            self._bars.update(bar, completed=done, total=total, amount=f"{_amount(done, total, unit)}, {rate:,.0f}/s")

        return update

    def _end(self, name: str, text: str) -> None:
        bar = self._ids[name]
        self._bars.update(bar, total=1, completed=0 if text.startswith("failed") else 1, amount=text)
        self._bars.stop_task(bar)


def _amount(done: float, total: float, unit: str) -> str:
    return f"{done:,.0f} of {total:,.0f} {unit} ({100 * done / max(total, 1):.0f} %)"


_board = Board()


def board() -> Board:
    """Where steps of this process report to."""
    return _board


@contextmanager
def reporting_to(new: Board) -> Iterator[Board]:
    """Let steps report to `new` for a while."""
    global _board
    before, _board = _board, new
    try:
        yield new
    finally:
        _board = before
