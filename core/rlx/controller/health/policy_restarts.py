"""A policy that died: whether it is restarted, and its next attempt.

Rules:

* The death of any rank ends the policy process. It is started again as a whole, from the newest checkpoint, up to
  `policy.restarts` times in a run. A process may die again and again at one step, within that number; an error that is
  raised twice at one step would be raised a third time, and ends the run.
* A death before the run has begun, or while it ends, ends the run.
* The same death is often reported several times: by the request that failed, by the policy and by the launcher.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TypeVar

from rlx.controller.health.members import Members
from rlx.controller.health.restarts import MAX_PAUSE_SECONDS, PAUSE_SECONDS
from rlx.controller.runtime.services import Services
from rlx.errors import RunError
from rlx.names import POLICY
from rlx.transport.messages import StartAgain

T = TypeVar("T")


class PolicyRestarts:
    """The attempts of the policy."""

    def __init__(self, services: Services, members: Members, step: Callable[[], int | None]) -> None:
        """`step()` returns the step that the run is at; None while it cannot go back to a checkpoint."""
        self._services = services
        self._members = members
        self._step = step
        self._attempt = 1
        self._died = asyncio.Event()
        self._raised: set[tuple[int, str]] = set()
        self._starts = 0
        self.count = 0
        """Restarts so far."""
        services.policy_errors.restart = lambda why: self.restart(why, raised=True)

    def is_current(self, attempt: int) -> bool:
        """Whether `attempt` is the newest attempt of the policy."""
        return attempt == self._attempt

    def restart(self, why: str, *, raised: bool = False) -> bool:
        """Restart the policy, which died for the reason `why`. Returns False if the run has to end instead.

        `raised`: an exception ended it, which may be raised again.
        """
        if self._died.is_set():
            return True
        step, limit = self._step(), self._services.config.policy.restarts
        if step is None or self.count >= limit:
            return False
        if raised and not self._starts:
            if (step, why) in self._raised:
                self._services.log("warning", f"{POLICY} failed at step {step} before, for the same reason")
                return False
            self._raised.add((step, why))
        self.count += 1
        self._attempt += 1
        self._members.leave_policy()
        again = f"It is started again ({self.count} of [policy] restarts = {limit})."
        self._services.log("warning", f"{why}. {again}")
        self._died.set()
        return True

    async def unless_it_dies(self, work: Coroutine[object, object, T]) -> T | None:
        """Return the result of `work`; None if the policy died before, which cancels it."""
        task, dying = asyncio.ensure_future(work), asyncio.ensure_future(self._died.wait())
        try:
            await asyncio.wait({task, dying}, return_when=asyncio.FIRST_COMPLETED)
            return await task if not self._died.is_set() else None
        finally:
            for waiting in (task, dying):
                waiting.cancel()
            await asyncio.gather(task, dying, return_exceptions=True)

    async def start(self, checkpoint: Path | None) -> None:
        """Start the next attempt from a checkpoint, or from the model. Returns when it is ready.

        If it dies before, the one after it is started, after a pause. Raises RunError if none is left.
        """
        seconds = self._services.config.run.start_seconds
        source = None if checkpoint is None else str(checkpoint)
        try:
            while True:
                self._died.clear()
                pause = min(MAX_PAUSE_SECONDS, PAUSE_SECONDS * 2 ** (self._starts - 1)) if self._starts else 0.0
                self._starts += 1
                self._services.notify_launcher(StartAgain(POLICY, self._attempt, pause, source))
                ready = await self.unless_it_dies(self._is_ready(pause + seconds))
                if ready:
                    return
                why = f"{POLICY} was started again and is not ready within {seconds:g} s (run.start_seconds)"
                if ready is False and not self.restart(why):
                    raise RunError(why)
        finally:
            self._starts = 0

    async def _is_ready(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._members.wait_for_policy()
        except TimeoutError:
            return False
        return True
