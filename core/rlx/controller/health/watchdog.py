"""Warns when nothing has moved for `run.stall_seconds`, again after twice that time, and so on.

A run in which nothing has moved for `PATIENCE` times `run.stall_seconds` fails. So no wait of the controller is
endless, not even a wait for groups or for a training step, which have no timeout of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rlx.config.sections.run import PATIENCE
from rlx.controller.runtime.progress import Progress
from rlx.errors import RunError


class Watchdog:
    """Watches `progress`. `describe` returns the current waits as text; `warn` shows a warning to the user."""

    def __init__(
        self, progress: Progress, *, stall_seconds: float, describe: Callable[[], str], warn: Callable[[str], None]
    ) -> None:
        self._progress = progress
        self._stall = stall_seconds
        self._next = stall_seconds
        self._describe = describe
        self._warn = warn

    def check(self) -> None:
        """Warn if a warning is due. Raises RunError if nothing has moved for too long."""
        idle = self._progress.idle_seconds
        if idle < self._stall:
            self._next = self._stall
        elif idle >= PATIENCE * self._stall:
            raise RunError(
                f"nothing has moved for {idle:.0f} s, {PATIENCE} times [run] stall_seconds: {self._describe()}. "
                "Look into the log of the process that the run waits for; if it only needs more time, raise [run] "
                "stall_seconds."
            )
        elif idle >= self._next:
            self._next *= 2
            self._warn(f"nothing has moved for {idle:.0f} s: {self._describe()}")

    async def run(self) -> None:
        """Check periodically until cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self._stall / 4))
            self.check()
