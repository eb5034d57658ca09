"""Notices a controller that has stopped speaking, and finds out where it stands."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence

from rlx.launchers.base import DumpingHandle, ProcessHandle
from rlx.logs import SEARCHED_LINES, last_stack

DUMP_SECONDS = 1.0
"""How long a process has to write its stacks."""
READ_SECONDS = 2.0
"""How long reading its log may take: the file system may be what hangs."""
BLOCKED_SECONDS = 2.0
"""If the launcher itself has not looked for this long (Ctrl-Z), messages of the controller may be waiting unread."""


class Silence:
    """How long the controller has been silent. It sends its status a few times a second.

    A controller that is silent for `run.heartbeat_seconds` is reported, with the place where it stands; after twice
    that time the run is ended.
    """

    def __init__(self, controller: ProcessHandle, limit: float, say: Callable[[str], None]) -> None:
        self._controller = controller
        self._limit = limit
        self._say = say
        self._heard = self._looked = time.monotonic()
        self._place = ""

    def heard(self) -> None:
        """Record that a message has arrived."""
        if self._place:
            self._say(f"the controller answers again, after {time.monotonic() - self._heard:.0f} s")
        self._heard, self._place = time.monotonic(), ""

    async def look(self) -> str:
        """Report a silence that is too long. Returns the error that ends the run, or "" while there is none."""
        now = time.monotonic()
        if now - self._looked > BLOCKED_SECONDS:
            self._heard = now
        silent = now - self._heard
        if silent >= self._limit and not self._place:
            self._place = _quoted(await stack_of(self._controller))
            self._say(f"{self._report()} If it stays silent, the run ends after {2 * self._limit:g} s.")
        # Not before the wait for the stack: the launcher was not blocked during that.
        self._looked = time.monotonic()
        return self._report() if silent >= 2 * self._limit else ""

    def _report(self) -> str:
        seconds = time.monotonic() - self._heard
        return (
            f"the controller has sent nothing for {seconds:.0f} s ([run] heartbeat_seconds = {self._limit:g}). "
            f"{self._place}\nIts log: {self._controller.log}."
        )


async def stack_of(process: ProcessHandle) -> Sequence[str]:
    """Return the innermost frames of a process that doesn't respond; an empty list if they can't be found out.

    Its whole stack dump is in its log.
    """
    if not isinstance(process, DumpingHandle):
        return []
    process.dump_stacks()
    await asyncio.sleep(DUMP_SECONDS)
    lines: list[str] = []
    # In a daemon thread, since the file system of the log may be what hangs.
    done, loop = asyncio.Event(), asyncio.get_running_loop()

    def read() -> None:
        lines.extend(process.last_lines(SEARCHED_LINES))
        loop.call_soon_threadsafe(done.set)

    threading.Thread(target=read, name="rlx-read-log", daemon=True).start()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(done.wait(), READ_SECONDS)
    return last_stack(list(lines))


def _quoted(frames: Sequence[str]) -> str:
    if not frames:
        return "It does not say where it stands."
    if not frames[0].startswith(" "):  # the nanny's word in place of frames
        return f"It {frames[0].partition(' ')[2]}."
    return "\n".join(["It stands at (innermost first; its log has all threads):", *frames])
