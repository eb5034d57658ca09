"""A replica that died is started again, and takes part again once it holds the policy's weights.

The rules of this part:

* Started again: a replica that took part, whose engine or process died while no weights were on their way, up to
  `rollout.restarts` times in a run. Every other death is the end of the run.
* From its death on nothing is leased to it. Weights are not sent before everybody is there again: the transfer group
  has a place for each, and with a new process all meet in a new one.
"""

from __future__ import annotations

import asyncio

from rlx.controller.context import Context
from rlx.errors import RunError
from rlx.transport.messages import StartAgain


class Restarts:
    """The replicas that are away."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._attempts = dict.fromkeys(context.replicas, 1)
        self._away: set[str] = set()
        self._returned: set[str] = set()
        self._complete = asyncio.Event()
        self._complete.set()
        self.count = 0
        """Restarts so far."""

    @property
    def due(self) -> bool:
        """Whether everybody is there, and somebody waits for weights."""
        return bool(self._returned) and not self._away

    def attempt(self, name: str) -> int:
        return self._attempts[name]

    def exhausted(self) -> bool:
        return self.count >= self._context.config.rollout.restarts

    def begin(self, name: str, why: str) -> None:
        """Has it started again."""
        self.count += 1
        self._attempts[name] += 1
        self._away.add(name)
        self._returned.discard(name)
        self._complete.clear()
        limit = self._context.config.rollout.restarts
        self._context.log("warning", f"{why}. It is started again ({self.count} of [rollout] restarts = {limit}).")
        self._context.tell_launcher(StartAgain(name, self._attempts[name]))
        self._context.failure.spawn(self._expect(name, self._attempts[name]), f"{name} starts again")

    def ready(self, name: str) -> bool:
        """Whether it is one that was away."""
        if name not in self._away:
            return False
        self._away.discard(name)
        self._returned.add(name)
        if not self._away:
            self._complete.set()
        return True

    async def wait(self) -> None:
        """Until everybody is there."""
        if self._away:
            with self._context.progress.waiting(f"weights wait for {', '.join(sorted(self._away))} to start again"):
                await self._complete.wait()

    def take_returned(self) -> set[str]:
        """Who has got weights now; they are not asked for again."""
        returned, self._returned = self._returned, set()
        return returned

    async def _expect(self, name: str, attempt: int) -> None:
        seconds = self._context.config.run.start_seconds
        await asyncio.sleep(seconds)
        if name in self._away and self._attempts[name] == attempt:
            raise RunError(f"{name} was started again and is not ready within {seconds:g} s (run.start_seconds)")
