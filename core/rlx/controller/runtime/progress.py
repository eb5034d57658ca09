"""The waits of a run that are in progress, and the time since anything moved."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 12
"""A run ends if nothing moves for this many times `run.stall_seconds`."""


class Progress:
    """Stages that the run waits for, oldest first, and the time since anything moved."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._moved = clock()
        self._stages: dict[int, str] = {}
        self._next = 0

    def moved(self) -> None:
        """Note that something has just moved."""
        self._moved = self._clock()

    @property
    def idle_seconds(self) -> float:
        """Seconds since anything moved."""
        return self._clock() - self._moved

    @contextmanager
    def waiting(self, stage: str) -> Iterator[None]:
        """Show `stage` ("<process> waits for <something>") while the body runs. Its end counts as movement."""
        key, self._next = self._next, self._next + 1
        self._stages[key] = stage
        try:
            yield
        finally:
            del self._stages[key]
        self.moved()

    @property
    def current(self) -> str:
        """The stages, longest-waiting first; empty if nothing is waited for."""
        return "; ".join(self._stages.values())
