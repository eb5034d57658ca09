"""Busy time of the engines: seconds in which they had requests, by the replicas' reports."""

from __future__ import annotations

import time
from collections.abc import Callable

from rlx.transport.messages import RolloutStats

MOST_EXTRAPOLATED = 2.0
"""Seconds for which a running engine counts as busy after its last report; it reports about once a second."""


class EngineClock:
    """The busy seconds of one replica, extrapolated between its reports."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._reported_at = clock()
        self._before = 0.0
        self._reported = 0.0
        self._running = False
        self._shown = 0.0

    def restarted(self) -> None:
        """Note that the engine counts from 0 again."""
        self._before = self.seconds()
        self._reported, self._running = 0.0, False

    def report(self, stats: RolloutStats) -> None:
        self._reported_at = self._clock()
        self._reported = stats.busy_seconds
        self._running = stats.running > 0

    def seconds(self) -> float:
        """Return the busy seconds so far. Never decreases, even if a report is below what was extrapolated."""
        extra = min(self._clock() - self._reported_at, MOST_EXTRAPOLATED) if self._running else 0.0
        self._shown = max(self._shown, self._before + self._reported + extra)
        return self._shown


class BusyTime:
    """The busy seconds of all engines since the start of the run, and the oldest group that they hold."""

    def __init__(self, replicas: tuple[str, ...], clock: Callable[[], float] = time.monotonic) -> None:
        self._engines = {name: EngineClock(clock) for name in replicas}
        self._latest: dict[str, RolloutStats] = {}

    def report(self, replica: str, stats: RolloutStats) -> bool:
        """Take a report. Returns whether its engine has generated anything since the report before."""
        before = self._latest.get(replica)
        self._latest[replica] = stats
        self._engines[replica].report(stats)
        return before is None or stats.tokens != before.tokens

    def restarted(self, replica: str) -> None:
        """Forget the last report of a replica that is being restarted."""
        self._engines[replica].restarted()
        self._latest.pop(replica, None)

    def generate_seconds(self) -> float:
        """Return the mean busy seconds over the engines."""
        if not self._engines:
            return 0.0
        return sum(engine.seconds() for engine in self._engines.values()) / len(self._engines)

    def oldest(self) -> str:
        """Return `oldest 480 s in reward 'judge' on rollout-1`; empty if no engine holds anything."""
        held = [(stats.oldest_seconds, name, stats.oldest_stage) for name, stats in self._latest.items()]
        seconds, name, stage = max(held, default=(0.0, "", ""))
        return f"oldest {seconds:.0f} s in {stage} on {name}" if stage else ""
