"""Watches a run from the launcher: the processes from outside, and the controller through its messages.

Rules:

* The controller decides how a run ends. The supervisor reports to it what it can't see (a process that ended, Ctrl-C, a
  logger that failed), and limits the time that it may take.
* A process that ends before `RunEnded` has died, whatever its exit code. It is reported after a short delay only, since
  `RunEnded` may be on its way.
* A process that the controller wants restarted is ended completely before its next attempt starts under its name.
* If the controller is dead or silent (silence.py), or the user asks twice, the supervisor ends the run itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

import msgspec
import psutil

from rlx.errors import PeerFailed
from rlx.launch.outcome import Outcome, ProcessExit
from rlx.launch.signals import SAVE_REASON, Signals
from rlx.launch.silence import Silence, stack_of
from rlx.launchers.base import ProcessHandle
from rlx.loggers.base import RunStatus
from rlx.loggers.dispatch import Loggers
from rlx.names import CONTROLLER
from rlx.transport.client import Client
from rlx.transport.messages import (
    Drain,
    Failed,
    Log,
    Message,
    RunEnded,
    Samples,
    SaveNow,
    StartAgain,
    Status,
    StepMetrics,
    WentBack,
)

POLL_SECONDS = 0.1
SETTLE_SECONDS = 0.5
"""Delay before a process that ended is reported."""
VERDICT_SECONDS = 30.0
"""How long the controller may take to begin to end a run after the first failure was reported to it."""
STOP_SECONDS = 20.0
"""How long processes may take to end by themselves after `RunEnded`."""


_STARTED: float = time.monotonic() - max(0.0, time.time() - psutil.Process().create_time())
"""When this process was started, by `time.monotonic`: clocks may be set while it runs."""


def seconds_since_command() -> float:
    """Return the seconds since this process, the launcher, was started."""
    return time.monotonic() - _STARTED


class Inbox:
    """Takes the controller's messages to the launcher."""

    def __init__(self, loggers: Loggers, say: Callable[[str], None], silence: Silence) -> None:
        """`silence` is informed of every message."""
        self._loggers = loggers
        self._say = say
        self.silence = silence
        self._run_ended = asyncio.Event()
        self.ended: RunEnded | None = None
        self.draining = False
        """Whether the controller is ending the run, which it does in limited time."""
        self.restarts: dict[str, StartAgain] = {}
        """Processes to restart."""

    async def take(self, message: Message) -> None:
        self.silence.heard()
        match message:
            case Status():
                self.draining = message.state == "draining"
                status = RunStatus(**msgspec.structs.asdict(message), elapsed=seconds_since_command())
                self._loggers.status(status)
            case Samples():
                self._loggers.log_samples(message.step, message.samples, message.kind)
            case StepMetrics():
                self._loggers.log(message.step, message.metrics, message.kind)
            case Log():
                self._say(f"{message.level}: {message.text}")
            case StartAgain():
                self.restarts[message.name] = message
            case WentBack():
                self._loggers.went_back(message.step, message.evaluated)
            case RunEnded():
                self.ended = message
                self._run_ended.set()

    async def wait(self, seconds: float) -> None:
        """Wait until the run has ended, at most `seconds`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._run_ended.wait(), seconds)


class Supervisor:
    """Watches the processes of one run.

    `watch` returns when the run is over. Processes may still be alive then; the launcher's `close` ends them.
    """

    def __init__(
        self,
        client: Client,
        processes: Sequence[ProcessHandle],
        restart: Callable[[StartAgain], ProcessHandle],
        inbox: Inbox,
        loggers: Loggers,
        signals: Signals,
        say: Callable[[str], None],
    ) -> None:
        """`restart(order)` starts a process in place of one that has ended; `say` prints a line."""
        self._client = client
        self._processes = {process.name: process for process in processes}
        self._restart = restart
        self._attempts = dict.fromkeys(self._processes, 1)
        self._inbox = inbox
        self._loggers = loggers
        self._signals = signals
        self._say = say
        self._seen_ended: dict[str, float] = {}
        self._exits: dict[str, ProcessExit] = {}
        self._killed: set[str] = set()
        """Processes that are being ended, to be restarted."""
        self._draining = False
        self._reported_failures = 0
        self._verdict_due = float("inf")

    async def watch(self) -> Outcome:
        """Watch until the run is over; return how it ended."""
        while (outcome := await self._look()) is None:
            await self._inbox.wait(POLL_SECONDS)
        return outcome.with_exits(list(self._exits.values()))

    async def _look(self) -> Outcome | None:
        """Look at everything once; return the outcome if the run is over."""
        if self._inbox.ended is not None:
            return await self._wait_for_processes(self._inbox.ended)
        asked = self._signals.count()
        if asked > 1:
            return Outcome.killed(self._signals.reason)
        if asked == 1 and not self._draining:
            self._draining = True
            self._say("draining: finishing the step and saving; Ctrl-C again stops now")
            await self._notify(Drain(self._signals.reason))
        if self._signals.take_save():
            await self._notify(SaveNow(SAVE_REASON))
        for late in self._loggers.overdue():
            self._say(f"warning: {late}")
        for failure in self._loggers.failures[self._reported_failures :]:
            self._reported_failures += 1
            await self._report_failure(Failed(failure.error, failure.owner))
        await self._restart_processes()
        await self._report_exits()
        if CONTROLLER in self._exits:
            return Outcome.failed(self._exits[CONTROLLER].headline())
        if silent := await self._inbox.silence.look():
            return Outcome.failed(f"the run is ended, since {silent}")
        if time.monotonic() > self._verdict_due and not self._inbox.draining:
            return Outcome.failed(
                f"the controller did not end the run within {VERDICT_SECONDS:g} s of the first failure"
            )
        return None

    async def _restart_processes(self) -> None:
        for name, order in list(self._inbox.restarts.items()):
            # The controller has answered the report of its end.
            self._exits.pop(name, None)
            if not self._exits:
                self._verdict_due = float("inf")
            if self._processes[name].poll() is None:
                await self._kill(self._processes[name])
                continue
            self._killed.discard(name)
            ended = self._seen_ended.setdefault(name, time.monotonic())
            if time.monotonic() - ended < order.pause_seconds:
                continue
            del self._inbox.restarts[name]
            self._processes[name], self._attempts[name] = self._restart(order), order.attempt
            del self._seen_ended[name]

    async def _kill(self, process: ProcessHandle) -> None:
        """End a process that the controller takes for dead. If it lives, its log shows where it stood."""
        if process.name not in self._killed:
            self._killed.add(process.name)
            await stack_of(process)
        process.kill()

    async def _report_exits(self) -> None:
        for name, process in self._processes.items():
            code = process.poll()
            if code is None or name in self._exits or name in self._inbox.restarts:
                continue
            since = self._seen_ended.setdefault(name, time.monotonic())
            if time.monotonic() - since >= SETTLE_SECONDS:
                self._exits[name] = ProcessExit.of(process, code, self._attempts[name])
                await self._report_failure(self._exits[name].message())

    async def _report_failure(self, message: Message) -> None:
        """Report a failure to the controller, which has to end the run, or restart the process, in time."""
        await self._notify(message)
        self._verdict_due = min(self._verdict_due, time.monotonic() + VERDICT_SECONDS)

    async def _notify(self, message: Message) -> None:
        try:
            await self._client.notify(message)
        except PeerFailed as error:
            # The controller is dead or silent; a later `_look` finds that and fails the run.
            self._say(f"{type(message).__name__} cannot be sent to the controller: {error}")

    async def _wait_for_processes(self, ended: RunEnded) -> Outcome:
        """Wait until the processes, which the controller has asked to stop, have ended; record failed exits."""
        asked, deadline = self._signals.count(), time.monotonic() + STOP_SECONDS
        stopping = [process for process in self._processes.values() if process.name not in ended.untold]
        while any(process.poll() is None for process in stopping) and time.monotonic() < deadline:
            if self._signals.count() > asked:
                self._say("stopping now")
                break
            await asyncio.sleep(POLL_SECONDS / 2)
        outcome = Outcome.from_controller(ended)
        for name, process in self._processes.items():
            code = process.poll()
            if name == CONTROLLER and code == outcome.exit_code:
                # It exits with the run's code, and its error is in `RunEnded`.
                continue
            if code is None and name in ended.untold:
                # The controller could not ask it to stop.
                continue
            if code is None:
                await stack_of(process)
                self._say(f"{name} did not stop within {STOP_SECONDS:g} s and is killed. Its log: {process.log}")
            elif code != 0 and name not in self._exits:
                self._exits[name] = ProcessExit.of(process, code)
        return outcome
