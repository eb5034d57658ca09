"""Replicas that died and are being restarted. They get leases again once they hold the policy's weights.

Rules:

* A replica is restarted if its engine or process died after the first weight sync and not during a later one, up to
  `rollout.restarts` times in a run. Every other death ends the run.
* A dead replica gets no leases. Weights are not sent before all replicas are ready again: the transfer group has a rank
  for each engine worker, so a new process needs a new group, which all workers join.
"""

from __future__ import annotations

import asyncio

from rlx.controller.runtime.services import Services
from rlx.errors import RunError
from rlx.transport.messages import StartAgain


class Restarts:
    """The replicas that are away, and those that have returned and still need weights."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._attempts = dict.fromkeys(services.replicas, 1)
        self._away: set[str] = set()
        self._returned: set[str] = set()
        self._all_back = asyncio.Event()
        self._all_back.set()
        self.count = 0
        """Restarts so far."""

    @property
    def need_weights(self) -> bool:
        """Whether all replicas are ready, and some of them still need weights."""
        return bool(self._returned) and not self._away

    def attempt(self, name: str) -> int:
        """Return the number of a replica's current attempt, counted from 1."""
        return self._attempts[name]

    def exhausted(self) -> bool:
        return self.count >= self._services.config.rollout.restarts

    def begin(self, name: str, why: str) -> None:
        """Ask the launcher to start a replica again, and fail the run if it is not ready in time."""
        self.count += 1
        self._attempts[name] += 1
        self._away.add(name)
        self._returned.discard(name)
        self._all_back.clear()
        limit = self._services.config.rollout.restarts
        self._services.log("warning", f"{why}. It is started again ({self.count} of [rollout] restarts = {limit}).")
        self._services.notify_launcher(StartAgain(name, self._attempts[name]))
        self._services.failure.spawn(self._require_ready(name, self._attempts[name]), f"{name} starts again")

    def ready(self, name: str) -> bool:
        """Record that a replica is ready. Returns whether it was away."""
        if name not in self._away:
            return False
        self._away.discard(name)
        self._returned.add(name)
        if not self._away:
            self._all_back.set()
        return True

    async def wait(self) -> None:
        """Wait until no replica is away."""
        if self._away:
            with self._services.progress.waiting(f"weights wait for {', '.join(sorted(self._away))} to start again"):
                await self._all_back.wait()

    def take_returned(self) -> set[str]:
        """Return the replicas that need weights, and clear the list: the caller sends the weights now."""
        returned, self._returned = self._returned, set()
        return returned

    async def _require_ready(self, name: str, attempt: int) -> None:
        seconds = self._services.config.run.start_seconds
        await asyncio.sleep(seconds)
        if name in self._away and self._attempts[name] == attempt:
            raise RunError(f"{name} was started again and is not ready within {seconds:g} s (run.start_seconds)")
