"""Busy time of the engines: seconds in which they had requests, from the replicas' reports."""

from __future__ import annotations

import time
from collections.abc import Callable

from rlx.transport.messages import RolloutStats

MAX_EXTRAPOLATED_SECONDS = 2.0
"""How long a running engine counts as busy after its last report; it reports about once a second."""


class EngineClock:
    """The busy seconds of one replica, extrapolated between its reports."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._reported_at = clock()
        self._earlier_attempts = 0.0
        self._reported = 0.0
        self._running = False
        self._last_returned = 0.0
        self._last_asked = clock()

    def restarted(self) -> None:
        """Keep the seconds so far: the new attempt of the engine counts from 0."""
        self._earlier_attempts = self.seconds()
        self._reported, self._running = 0.0, False

    def report(self, stats: RolloutStats) -> None:
        self._reported_at = self._clock()
        self._reported = stats.busy_seconds
        # Not only `running`: a group is counted a moment after its first request, and the next report is a second away.
        self._running = stats.busy or stats.running > 0

    def seconds(self) -> float:
        """Return the busy seconds so far.

        They never decrease, even if a report is below the extrapolated value, and never grow faster than time: the
        seconds of a late report are spread over the calls that follow it. So the share of a step is at most 1.
        """
        now = self._clock()
        extra = min(now - self._reported_at, MAX_EXTRAPOLATED_SECONDS) if self._running else 0.0
        found = self._earlier_attempts + self._reported + extra
        most = self._last_returned + now - self._last_asked
        self._last_asked = now
        self._last_returned = max(self._last_returned, min(found, most))
        return self._last_returned


class BusyTime:
    """The busy seconds of all engines since the start of the run, and the oldest group that is sampled or scored."""

    def __init__(self, replicas: tuple[str, ...], clock: Callable[[], float] = time.monotonic) -> None:
        self._engines = {name: EngineClock(clock) for name in replicas}
        self._latest: dict[str, RolloutStats] = {}

    def report(self, replica: str, stats: RolloutStats) -> bool:
        """Add a report. Returns whether the engine has generated tokens since its previous report."""
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
        """Return `oldest 480 s in reward 'judge' on rollout-1`; empty if no replica holds a group."""
        oldest = [(stats.oldest_seconds, name, stats.oldest_stage) for name, stats in self._latest.items()]
        seconds, name, phase = max(oldest, default=(0.0, "", ""))
        return f"oldest {seconds:.0f} s in {phase} on {name}" if phase else ""
