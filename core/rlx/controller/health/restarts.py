"""Replicas that died and are being restarted. They get leases again once they hold the policy's weights.

Rules:

* A replica is restarted if its engine or process died, at any moment after the run has begun, up to `rollout.restarts`
  times in a run. So is one that was restarted and whose start failed, after a pause that grows: the usual reason is a
  device whose memory is not free yet. Every other death ends the run.
* A dead replica gets neither leases nor weights. The others go on without it: weights wait only while none is left.
* A new process needs a new transfer group, which has a rank for each engine worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import TypeVar

from rlx.controller.runtime.services import Services
from rlx.errors import PeerFailed, RunError
from rlx.transport.messages import StartAgain

T = TypeVar("T")

PAUSE_SECONDS = 2.0
"""Before the next start of a replica whose start has failed; twice as long after each further failure in a row."""
MAX_PAUSE_SECONDS = 60.0
DEATH_REPORT_SECONDS = 5.0
"""How long the report of a death may take. The nanny of a killed process ends the rest of its tree first."""


class ReplicaDied(PeerFailed):
    """A replica died before it answered."""


class Restarts:
    """The replicas that are away, and those that have returned and still need weights."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._attempts = dict.fromkeys(services.replicas, 1)
        self._deaths = {name: asyncio.Event() for name in services.replicas}
        self._away: set[str] = set()
        self._returned: set[str] = set()
        self._failed_starts = dict.fromkeys(services.replicas, 0)
        self._some_present = asyncio.Event()
        self._some_present.set()
        self.count = 0
        """Restarts so far."""

    @property
    def need_weights(self) -> bool:
        """Whether replicas are ready that don't hold the policy's weights yet."""
        return bool(self._returned)

    @property
    def present(self) -> dict[str, int]:
        """The replicas that are ready, each with its attempt."""
        return {name: attempt for name, attempt in self._attempts.items() if name not in self._away}

    def attempt(self, name: str) -> int:
        """Return the number of a replica's current attempt, counted from 1."""
        return self._attempts[name]

    def is_away(self, name: str) -> bool:
        """Whether a replica was restarted and is not ready yet."""
        return name in self._away

    def exhausted(self) -> bool:
        return self.count >= self._services.config.rollout.restarts

    def begin(self, name: str, why: str) -> None:
        """Ask the launcher to start a replica again. If it is not ready in time, that is another death."""
        self.count += 1
        pause = 0.0
        if name in self._away:
            pause = min(MAX_PAUSE_SECONDS, PAUSE_SECONDS * 2 ** self._failed_starts[name])
            self._failed_starts[name] += 1
        self._attempts[name] += 1
        self._away.add(name)
        self._returned.discard(name)
        if not self.present:
            self._some_present.clear()
        self._deaths[name].set()
        self._deaths[name] = asyncio.Event()
        limit = self._services.config.rollout.restarts
        when = f" in {pause:g} s" if pause else ""
        again = f"It is started again{when} ({self.count} of [rollout] restarts = {limit})."
        self._services.log("warning", f"{why}. {again}")
        self._services.notify_launcher(StartAgain(name, self._attempts[name], pause))
        ready = self._require_ready(name, self._attempts[name], pause)
        self._services.failure.spawn(ready, f"{name} starts again", lasting=True)

    def ready(self, name: str) -> bool:
        """Record that a replica is ready. Returns whether it was away."""
        if name not in self._away:
            return False
        self._away.discard(name)
        self._returned.add(name)
        self._failed_starts[name] = 0
        self._some_present.set()
        return True

    async def wait(self) -> None:
        """Wait until at least one replica is ready."""
        if not self.present:
            with self._services.progress.waiting(f"weights wait for {', '.join(sorted(self._away))} to start again"):
                await self._some_present.wait()

    def holds_weights(self, name: str, attempt: int) -> bool:
        """Record that an attempt of a replica holds verified weights. Returns whether it had returned without them."""
        if name not in self._returned or self._attempts[name] != attempt:
            return False
        self._returned.discard(name)
        return True

    async def while_alive(self, name: str, work: Coroutine[object, object, T]) -> T:
        """Return the result of `work`. Raises ReplicaDied if the replica dies before."""
        death, task = self._deaths[name], asyncio.ensure_future(work)
        dying = asyncio.ensure_future(death.wait())
        try:
            await asyncio.wait({task, dying}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ReplicaDied(f"{name} died")
            return await task
        finally:
            for waiting in (task, dying):
                waiting.cancel()
            await asyncio.gather(task, dying, return_exceptions=True)

    async def died(self, members: Mapping[str, int]) -> list[str]:
        """Return those of `members` (each with its attempt) that have died, after waiting for the report of a death."""
        deaths = [asyncio.ensure_future(self._deaths[name].wait()) for name in members]
        try:
            if not self._gone(members):
                await asyncio.wait(deaths, timeout=DEATH_REPORT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for death in deaths:
                death.cancel()
            await asyncio.gather(*deaths, return_exceptions=True)
        return self._gone(members)

    def _gone(self, members: Mapping[str, int]) -> list[str]:
        return [name for name, attempt in members.items() if self._attempts[name] != attempt]

    async def _require_ready(self, name: str, attempt: int, pause: float) -> None:
        seconds = self._services.config.run.start_seconds
        await asyncio.sleep(pause + seconds)
        if name in self._away and self._attempts[name] == attempt:
            why = f"{name} was started again and is not ready within {seconds:g} s (run.start_seconds)"
            if self.exhausted():
                raise RunError(why)
            self.begin(name, why)
