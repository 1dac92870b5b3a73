"""Where steps report: plain lines, bars, and stopping."""

from __future__ import annotations

import io
import re
import threading

import pytest
from rich.console import Console

from flows import progress
from flows.progress import Bars, Board, Lines, board, reporting_to


def test_plain_lines_tell_the_end_of_a_step():
    said = []
    with Lines(said.append).step("embed words") as tell:
        tell(1, 10, "words")
    assert len(said) == 1
    assert re.fullmatch(r"embed words: done in \d+\.\d s", said[0])


def test_plain_lines_tell_a_failure():
    said = []
    with pytest.raises(ValueError, match="x"), Lines(said.append).step("embed words"):
        raise ValueError("x")
    assert re.fullmatch(r"embed words: failed after \d+\.\d s \(ValueError\)", said[0])


def test_long_steps_tell_how_far_they_are(monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    said = []
    with Lines(said.append).step("s") as tell:
        tell(1_500, 3_000, "words")
        tell(0, 0, "words")
    assert said[:2] == ["s: 1,500 of 3,000 words (50 %)", "s: 0 of 0 words (0 %)"]


def test_not_more_often_than_wanted(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(progress, "LINE_EVERY", 10.0)
    said = []
    with Lines(said.append).step("s") as tell:
        for i in range(60):
            tell(i, 60, "rows")
    assert 3 <= len(said) - 1 <= 6


def test_saying():
    said = []
    Lines(said.append).say("waiting")
    assert said == ["waiting"]
    Board().say("nothing is shown")


def test_a_stopped_board_ends_its_steps():
    said = []
    lines = Lines(said.append)
    with pytest.raises(KeyboardInterrupt), lines.step("s") as tell:
        tell(1, 2, "x")
        lines.stopped.set()
        tell(2, 2, "x")
    assert "KeyboardInterrupt" in said[-1]


@pytest.mark.parametrize("kind", ["board", "lines", "bars"])
def test_boards_are_safe_in_threads(kind):
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    this = {"board": Board(), "lines": Lines(lambda text: None), "bars": Bars(console)}[kind]
    errors = []

    def work(name):
        try:
            with this.step(name) as tell:
                for i in range(50):
                    tell(i, 50, "rows")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"step {i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert errors == []


def test_bars_show_name_amount_and_end():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=140)
    with Bars(console) as bars:
        with bars.step("embed [words]") as tell:
            tell(5, 10, "words")
            bars._bars.refresh()
        with pytest.raises(ValueError, match="x"), bars.step("embed nodes"):
            raise ValueError("x")
        bars.say("[a line] to read")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    assert "[a line] to read" in text
    assert "embed [words]" in text
    assert "5 of 10 words (50 %)" in text
    assert "done in" in text
    assert "failed after" in text and "(ValueError)" in text


def test_reporting_is_put_back():
    before = board()
    with reporting_to(Lines(print)) as lines:
        assert board() is lines
        with reporting_to(Board()) as inner:
            assert board() is inner
        assert board() is lines
    assert board() is before
    with pytest.raises(RuntimeError), reporting_to(Board()):
        raise RuntimeError
    assert board() is before
