"""How busy the two sides are: seconds in which engines had requests, and in which the policy trained."""

from __future__ import annotations

import time
from collections.abc import Callable

from rlx.transport.messages import RolloutStats


class EngineClock:
    """One replica's busy seconds, carried on between its reports (about one a second)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at = clock()
        self._before = 0.0
        self._reported = 0.0
        self._running = False
        self._shown = 0.0

    def restarted(self) -> None:
        """The engine counts from 0 again."""
        self._before = self.seconds()
        self._reported, self._running = 0.0, False

    def report(self, stats: RolloutStats) -> None:
        self._at = self._clock()
        self._reported = stats.busy_seconds
        self._running = stats.running > 0

    def seconds(self) -> float:
        """Never goes back, though a report may say less than was carried on."""
        carried = min(self._clock() - self._at, 2.0) if self._running else 0.0
        self._shown = max(self._shown, self._before + self._reported + carried)
        return self._shown


class BusyTime:
    """Busy seconds of all engines (mean) and of the policy, since the start of the run."""

    def __init__(self, replicas: tuple[str, ...], clock: Callable[[], float] = time.monotonic) -> None:
        self._engines = {name: EngineClock(clock) for name in replicas}
        self._latest: dict[str, RolloutStats] = {}
        self._tokens = 0
        self.train_seconds = 0.0

    def report(self, replica: str, stats: RolloutStats) -> bool:
        """Returns whether its engine generated anything since its last report."""
        before = self._latest.get(replica)
        self._latest[replica] = stats
        self._engines[replica].report(stats)
        return before is None or stats.tokens != before.tokens

    def restarted(self, replica: str) -> None:
        """What it holds is not known before its next report."""
        self._engines[replica].restarted()
        self._latest.pop(replica, None)

    def generate_seconds(self) -> float:
        if not self._engines:
            return 0.0
        return sum(engine.seconds() for engine in self._engines.values()) / len(self._engines)

    def oldest(self) -> str:
        """`oldest 480 s in reward 'judge' on rollout-1`; empty where no engine holds anything."""
        held = [(stats.oldest_seconds, name, stats.oldest_stage) for name, stats in self._latest.items()]
        seconds, name, stage = max(held, default=(0.0, "", ""))
        return f"oldest {seconds:.0f} s in {stage} on {name}" if stage else ""
