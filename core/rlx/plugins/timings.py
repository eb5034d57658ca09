"""What rewards and hooks cost a process: seconds and calls.

A cost is called `reward/<name>` or `hook/<plugin>/<hook>`, by the names in the config. Seconds are those of the call
itself, however it ended, without waiting or transport; calls that run at the same time count in full.
"""

from __future__ import annotations

from collections.abc import Mapping

Timing = tuple[float, int]
"""Seconds, calls."""


class CallTimings:
    """Adds up. What is new goes from process to process with messages that are sent anyway."""

    def __init__(self) -> None:
        self.total: dict[str, Timing] = {}
        self._new: dict[str, Timing] = {}

    def add(self, name: str, seconds: float, calls: int = 1) -> None:
        for costs in (self.total, self._new):
            before = costs.get(name, (0.0, 0))
            costs[name] = (before[0] + seconds, before[1] + calls)

    def merge(self, costs: Mapping[str, Timing]) -> None:
        """What another process has taken."""
        for name, (seconds, calls) in costs.items():
            self.add(name, seconds, calls)

    def take(self) -> dict[str, Timing]:
        """What was added since this was last called."""
        taken, self._new = self._new, {}
        return taken
