"""Tracks the waits of the controller, and the time since anything moved."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """The current waits of the controller, and the time since anything moved.

    A message from another process, the end of a wait, or a token counts as movement.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._moved = clock()
        self._waits: dict[int, str] = {}
        self._next = 0

    def moved(self) -> None:
        """Reset the time since anything moved."""
        self._moved = self._clock()

    @property
    def idle_seconds(self) -> float:
        """Seconds since anything moved."""
        return self._clock() - self._moved

    @contextmanager
    def waiting(self, wait: str) -> Iterator[None]:
        """List `wait` ("policy trains step 3") as a current wait while the body runs. Its end counts as movement."""
        key, self._next = self._next, self._next + 1
        self._waits[key] = wait
        try:
            yield
        finally:
            del self._waits[key]
        self.moved()

    @property
    def current(self) -> str:
        """The current waits as text, oldest first; empty without any."""
        return "; ".join(self._waits.values())
