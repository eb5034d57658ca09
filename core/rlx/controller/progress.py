"""What the run is doing, and when something last moved."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 12
"""A run in which nothing moved for this many times `run.stall_seconds` is ended."""


class Progress:
    """Stages that are being waited for, oldest first, and the time since anything moved."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._moved = clock()
        self._stages: dict[int, tuple[str, float]] = {}
        self._next = 0

    def moved(self) -> None:
        self._moved = self._clock()

    @property
    def idle_seconds(self) -> float:
        return self._clock() - self._moved

    @contextmanager
    def waiting(self, stage: str) -> Iterator[None]:
        """`stage` reads as '<who> waits for <what>' or '<who> <does what>'. Its end counts as movement."""
        key, self._next = self._next, self._next + 1
        self._stages[key] = (stage, self._clock())
        try:
            yield
        finally:
            del self._stages[key]
        self.moved()

    @property
    def current(self) -> str:
        """The stages, longest-waiting first; empty where nothing is waited for."""
        return "; ".join(stage for stage, _ in self._stages.values())
