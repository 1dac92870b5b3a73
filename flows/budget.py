"""One budget of cores for all steps of a run, so that branches that run at the same time do not slow each other down."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """A number of cores that steps take and give back, first come first served."""

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self._free = cores
        self._line: list[object] = []
        self._changed = threading.Condition()

    @contextmanager
    def take(self, cores: int) -> Iterator[int]:
        """Wait for `cores` of them (0 means all; more than there are means all), and yield how many were given."""
        wanted = min(cores or self.cores, self.cores)
        ticket = object()
        with self._changed:
            self._line.append(ticket)
            self._changed.wait_for(lambda: self._line[0] is ticket and self._free >= wanted)
            self._line.pop(0)
            self._free -= wanted
            self._changed.notify_all()
        try:
            yield wanted
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()
