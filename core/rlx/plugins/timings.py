"""Seconds and calls of rewards and hooks, and failures of hooks, counted in each process and sent on to the controller.

A timing is called `reward/<name>` or `hook/<plugin>/<hook>`, by the names in the config. Seconds are those of the call
itself, whether it succeeded or not, without waiting or transport; calls that run at the same time count in full.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

Timing = tuple[float, int]
"""Seconds, calls."""


class CallTimings:
    """Seconds and calls, summed by name. New values travel between processes with messages that are sent anyway.

    May be used from several threads: hooks have one of their own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.total: dict[str, Timing] = {}
        self._new: dict[str, Timing] = {}

    def add(self, name: str, seconds: float, calls: int = 1) -> None:
        with self._lock:
            for timings in (self.total, self._new):
                before = timings.get(name, (0.0, 0))
                timings[name] = (before[0] + seconds, before[1] + calls)

    def merge(self, timings: Mapping[str, Timing]) -> None:
        """Add timings that another process took with `take`."""
        for name, (seconds, calls) in timings.items():
            self.add(name, seconds, calls)

    def take(self) -> dict[str, Timing]:
        """Return everything added since the last call."""
        with self._lock:
            taken, self._new = self._new, {}
        return taken


class HookFailures:
    """How often a hook of each plugin raised, for those in `[plugins] best_effort`. Travels as `CallTimings` do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.total: Counter[str] = Counter()
        self._new: Counter[str] = Counter()

    def merge(self, failures: Mapping[str, int]) -> None:
        """Add the failures of a plugin, or those that another process took with `take`."""
        with self._lock:
            self.total.update(failures)
            self._new.update(failures)

    def take(self) -> dict[str, int]:
        """Return everything added since the last call."""
        with self._lock:
            taken, self._new = dict(self._new), Counter()
        return taken
