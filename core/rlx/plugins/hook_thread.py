"""Calls the hooks of one process in a thread of their own: a hook that blocks stops neither heartbeats nor messages.

Rules:

* Hooks run one at a time, in the order in which they were asked for, always in the same thread.
* The caller waits for them; the event loop that it runs in goes on.
* A hook that takes long is reported, with its plugin and the line where it stands. One that exceeds the limit is a
  HookError. A thread can't be ended, so it stays behind, and no hook is called after it.
"""

from __future__ import annotations

import asyncio
import functools
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from pluggy import HookCaller

from rlx.config.sections.run import PATIENCE, RunConfig
from rlx.errors import HookError
from rlx.plugins.hooks import Hooks

POLL_SECONDS = 0.2
BEHIND_SECONDS = 5.0
"""How long the last hooks of a run wait for one that still runs although the run has failed meanwhile."""
_FRAMES = 3
"""Innermost lines of a hook that a message quotes."""


@dataclass(frozen=True)
class HookLimits:
    """When a hook that is still running is reported, and when it is given up."""

    report_seconds: float
    give_up_seconds: float

    @classmethod
    def of(cls, run: RunConfig) -> HookLimits:
        """Return the limits of a run: a hook is reported as soon as a silent process would be."""
        return cls(min(run.heartbeat_seconds, run.stall_seconds), run.patience)


@dataclass(frozen=True)
class _Call:
    future: Future[Any]
    function: Callable[[], Any]


class HookThread:
    """The hooks of one process. Use one instance from one event loop."""

    def __init__(
        self,
        hooks: Hooks,
        limits: HookLimits,
        *,
        report: Callable[[str], None],
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        """`report` shows a warning to the user; `alive` is called from time to time while a hook runs."""
        self._hooks = hooks
        self._limits = limits
        self._report = report
        self._alive = alive
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._running: Future[Any] | None = None
        # A daemon, since a hook may never return: Python would wait for any other thread before it exits.
        self._thread = threading.Thread(target=self._run_all, name="rlx-hooks", daemon=True)
        self._thread.start()

    async def call(self, hook: str, /, **arguments: object) -> Any:
        """Call a hook of all enabled plugins in the thread, and return what pluggy returns.

        Raises HookError if one raises, runs for longer than the limit, or if the thread is taken up by an earlier one
        that was given up.
        """
        return await self._call(hook, getattr(self._hooks.relay, hook), arguments, behind_seconds=None)

    async def call_each(
        self, hook: str, /, arguments: Mapping[str, Mapping[str, object]], *, at_end: bool = False
    ) -> dict[str, Any]:
        """Call a hook of several plugins: name of a plugin -> arguments. Return the results that are not None.

        Raises HookError as `call` does, or, with `at_end`, as `call_at_end` does.
        """
        behind = BEHIND_SECONDS if at_end else None
        results: dict[str, Any] = {}
        for plugin, own in arguments.items():
            found = await self._call(hook, self._hooks.only(plugin, hook), dict(own), behind_seconds=behind)
            if found:
                results[plugin] = found[0]
        return results

    async def call_at_end(self, hook: str, /, **arguments: object) -> Any:
        """Call a hook as `call` does, but wait for one that still runs for a few seconds only.

        Raises HookError without calling the hook if the other one still runs then.
        """
        return await self._call(hook, getattr(self._hooks.relay, hook), arguments, behind_seconds=BEHIND_SECONDS)

    async def _call(
        self, hook: str, caller: HookCaller, arguments: dict[str, object], *, behind_seconds: float | None
    ) -> Any:
        if not caller.get_hookimpls():
            return caller(**arguments)
        future: Future[Any] = Future()
        self._calls.put(_Call(future, functools.partial(caller, **arguments)))
        waiting = asyncio.wrap_future(future)
        waiting.add_done_callback(lambda done: done.cancelled() or done.exception())  # the caller may have gone
        asked = time.monotonic()
        report_at = self._limits.report_seconds
        try:
            while not (await asyncio.wait({waiting}, timeout=min(POLL_SECONDS, report_at / 4)))[0]:
                self._alive()
                if self._running is future:
                    report_at = self._look(report_at)
                elif behind_seconds is not None and time.monotonic() - asked >= behind_seconds:
                    raise HookError(f"{hook} is not called, since another hook still runs. {self._describe()}")
            return waiting.result()
        finally:
            future.cancel()  # has no effect on a hook that runs already

    def _look(self, report_at: float) -> float:
        """Report the hook that runs if that is due; return the seconds at which the next report is.

        Raises HookError if it has run for longer than the limit.
        """
        running = self._hooks.running
        seconds = 0.0 if running is None else time.monotonic() - running.began
        if seconds >= self._limits.give_up_seconds:
            raise HookError(
                f"{self._describe()}\nThat is longer than {PATIENCE} times [run] stall_seconds. If the hook only needs "
                "more time, raise [run] stall_seconds."
            )
        if seconds < report_at:
            return report_at
        self._report(
            f"{self._describe()}\nThe run waits for it, and ends if it takes longer than "
            f"{self._limits.give_up_seconds:g} s ({PATIENCE} times [run] stall_seconds)."
        )
        return 2 * report_at

    def _describe(self) -> str:
        """Say which hook runs, for how long, and where it stands."""
        running = self._hooks.running
        if running is None:
            return "It has just ended."
        frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001 - a documented function
        frames = [] if frame is None else traceback.extract_stack(frame)
        # The frames below the guard are those of the hook itself.
        first = 1 + max((index for index, found in enumerate(frames) if found.name == running.title), default=-1)
        seconds = time.monotonic() - running.began
        where = "".join(traceback.format_list(frames[first:][-_FRAMES:])).rstrip()
        return "\n".join(filter(None, [f"{running.title} has been running for {seconds:.0f} s. It stands at:", where]))

    def _run_all(self) -> None:
        while True:
            call = self._calls.get()
            if not call.future.set_running_or_notify_cancel():
                continue
            self._running = call.future
            try:
                call.future.set_result(call.function())
            except BaseException as error:  # noqa: BLE001 - raised again where the hook's result is awaited
                call.future.set_exception(error)
            finally:
                self._running = None
