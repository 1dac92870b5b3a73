"""One budget of cores: never more than there are, first come first served, given back after an error."""

from __future__ import annotations

import threading
import time

import pytest

from flows.budget import Budget


class Steps:
    """Threads that take cores, noting the order and the most taken at once."""

    def __init__(self, cores):
        self.budget = Budget(cores)
        self.order, self.most, self._now = [], 0, 0
        self._lock = threading.Lock()
        self.threads = []

    def start(self, name, cores, leave):
        def work():
            with self.budget.take(cores) as given:
                with self._lock:
                    self.order.append((name, given))
                    self._now += given
                    self.most = max(self.most, self._now)
                leave.wait(20)
                with self._lock:
                    self._now -= given

        thread = threading.Thread(target=work)
        thread.start()
        self.threads.append(thread)
        time.sleep(0.03)  # it is in the line now

    def join(self):
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()


@pytest.mark.parametrize(("wanted", "given"), [(1, 1), (3, 3), (4, 4), (0, 4), (99, 4)])
def test_how_many_are_given(wanted, given):
    budget = Budget(4)
    for _ in range(3):
        with budget.take(wanted) as cores:
            assert cores == given


def test_never_more_than_there_are():
    steps, go = Steps(4), threading.Event()
    go.set()
    for i in range(30):
        steps.start(i, i % 6, go)
    steps.join()
    assert len(steps.order) == 30
    assert 0 < steps.most <= 4


def test_what_fits_runs_at_once():
    steps, go = Steps(4), threading.Event()
    for name, cores in (("a", 1), ("b", 3)):
        steps.start(name, cores, go)
    assert steps.order == [("a", 1), ("b", 3)]
    go.set()
    steps.join()
    assert steps.most == 4


def test_first_come_first_served():
    """A small step does not pass a large one that came first, or the large one might wait for ever."""
    steps, first, rest = Steps(4), threading.Event(), threading.Event()
    steps.start("first", 2, first)
    steps.start("large", 4, rest)
    steps.start("small", 1, rest)
    assert steps.order == [("first", 2)]
    first.set()
    time.sleep(0.1)
    assert steps.order == [("first", 2), ("large", 4)]
    rest.set()
    steps.join()
    assert steps.order == [("first", 2), ("large", 4), ("small", 1)]


def test_an_error_gives_back():
    budget = Budget(2)
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), budget.take(2):
            raise error
    done = threading.Event()

    def other():
        with budget.take(2):
            done.set()

    threading.Thread(target=other).start()
    assert done.wait(10)
