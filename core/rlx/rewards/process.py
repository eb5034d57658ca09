"""One reward process, from the pool's side: start it, send it calls, kill it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack, suppress
from typing import IO

from rlx.errors import PluginError, RewardError
from rlx.rewards.messages import LENGTH, FromWorker, LoadFailed, Ready, Start, frame, from_worker

KILL_SECONDS = 10.0


class WorkerDied(Exception):  # noqa: N818 - internal: the pool turns it into a RewardError with an owner
    """The process ended in the middle of a call; `str` says how."""


class RewardProcess:
    """One worker process. It has its own session, so that processes that a reward starts are killed with it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self._watch = asyncio.create_task(self._close_stdout_at_exit())

    @classmethod
    async def start(cls, start: Start, timeout: float, stderr: IO[bytes] | None = None) -> tuple[RewardProcess, Ready]:
        """Start a worker and load the rewards, within `timeout` seconds.

        stderr: where it prints. Default: where this process does.

        Raises PluginError or RewardError if they can't be loaded.
        """
        worker = cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "rlx.rewards.worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        )
        async with AsyncExitStack() as undo:
            undo.push_async_callback(worker.kill)  # on cancellation, too: no process may be left behind
            ready = await worker._load(start, timeout)
            undo.pop_all()
        return worker, ready

    async def send(self, call: bytes, timeout: float) -> FromWorker:
        """Send one framed call and wait for its answer. Raises TimeoutError, and WorkerDied if the process ended."""
        try:
            async with asyncio.timeout(timeout):
                self._stdin.write(call)
                await self._stdin.drain()
                head = await self._stdout.readexactly(LENGTH.size)
                return from_worker(await self._stdout.readexactly(LENGTH.unpack(head)[0]))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise WorkerDied(await self._how_it_ended()) from error

    async def kill(self) -> None:
        """Kill the process and all that it started. Returns when it has exited."""
        self._watch.cancel()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        async with asyncio.timeout(KILL_SECONDS):
            await self._process.wait()
        self._stdin.close()

    async def _load(self, start: Start, timeout: float) -> Ready:
        try:
            answer = await self.send(frame(start), timeout)
        except TimeoutError as error:
            names = ", ".join(repr(spec.name) for spec in start.rewards)
            raise RewardError(f"Loading the rewards {names} took more than {timeout:g} s.") from error
        except WorkerDied as error:
            raise RewardError(f"A reward's process {error} while it loaded the rewards; its log has more.") from error
        if isinstance(answer, LoadFailed):
            raise PluginError(answer.error) if answer.usage else RewardError(answer.error)
        assert isinstance(answer, Ready)
        return answer

    async def _close_stdout_at_exit(self) -> None:
        """Feed EOF to the reader when the process exits: a child of a reward may still hold the pipe open."""
        await self._process.wait()
        self._stdout.feed_eof()

    async def _how_it_ended(self) -> str:
        with suppress(TimeoutError):
            async with asyncio.timeout(KILL_SECONDS):
                code = await self._process.wait()
            if code < 0:
                return f"was killed by {signal.Signals(-code).name}"
            return f"exited with code {code}"
        return "closed its pipe"
