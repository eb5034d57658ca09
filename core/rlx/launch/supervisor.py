"""Watches a run from the launcher: the processes from outside, the controller's word from inside.

The rules of this part:

* The controller decides how a run ends; the supervisor tells it what it cannot see (a process that is gone, Ctrl-C, a
  logger that failed) and holds it to its time.
* A process that ends before `RunEnded` is a death, whatever its exit code. A little time passes before it is called
  one: `RunEnded` may be on its way.
* What the controller wants started again is ended whole first; then its next attempt has its name.
* Where the controller is dead or silent, or the user says so twice, the supervisor ends the run itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from rlx.errors import PeerFailed
from rlx.launch.outcome import Outcome, ProcessExit
from rlx.launch.signals import Signals
from rlx.launchers.base import ProcessHandle
from rlx.loggers.base import RunStatus
from rlx.loggers.dispatch import Loggers
from rlx.names import CONTROLLER
from rlx.transport.client import Client
from rlx.transport.messages import Drain, Failed, Log, Message, RunEnded, StartAgain, Status, StepMetrics

POLL_SECONDS = 0.1
SETTLE_SECONDS = 0.5
VERDICT_SECONDS = 30.0
"""How long the controller may take to end a run after it was told of a death."""
STOP_SECONDS = 20.0
"""How long processes may take to end by themselves after `RunEnded`."""


class Inbox:
    """What the controller tells the launcher."""

    def __init__(self, loggers: Loggers, say: Callable[[str], None]) -> None:
        self._loggers = loggers
        self._say = say
        self._arrived = asyncio.Event()
        self.ended: RunEnded | None = None
        self.again: dict[str, int] = {}
        """Processes to be started again, and the number of the attempt."""

    async def take(self, message: Message) -> None:
        match message:
            case Status():
                self._loggers.status(RunStatus(**msgspec.structs.asdict(message)))
            case StepMetrics():
                self._loggers.log(message.step, message.metrics, message.kind)
            case Log():
                self._say(f"{message.level}: {message.text}")
            case StartAgain():
                self.again[message.name] = message.attempt
            case RunEnded():
                self.ended = message
                self._arrived.set()

    async def wait(self, seconds: float) -> None:
        """Until the run has ended, for so long at most."""
        try:
            await asyncio.wait_for(self._arrived.wait(), seconds)
        except TimeoutError:
            return


class Supervisor:
    """`watch` returns when the run is over; processes may still live then, and the launcher's `close` ends them."""

    def __init__(
        self,
        client: Client,
        processes: Sequence[ProcessHandle],
        start_again: Callable[[str, int], ProcessHandle],
        inbox: Inbox,
        loggers: Loggers,
        signals: Signals,
        say: Callable[[str], None],
    ) -> None:
        """`start_again(name, attempt)` starts a process in the place of one that is gone."""
        self._client = client
        self._processes = {process.name: process for process in processes}
        self._start_again = start_again
        self._attempts = dict.fromkeys(self._processes, 1)
        self._inbox = inbox
        self._loggers = loggers
        self._signals = signals
        self._say = say
        self._seen_dead: dict[str, float] = {}
        self._deaths: dict[str, ProcessExit] = {}
        self._draining = False
        self._told_failures = 0
        self._verdict_due = float("inf")

    async def watch(self) -> Outcome:
        while (ending := await self._look()) is None:
            await self._inbox.wait(POLL_SECONDS)
        return ending.with_deaths(list(self._deaths.values()))

    async def _look(self) -> Outcome | None:
        """One look at everything; the ending, once there is one."""
        if self._inbox.ended is not None:
            return await self._let_stop(self._inbox.ended)
        if self._signals.count > 1:
            return Outcome.killed()
        await self._pass_on_signal()
        await self._pass_on_logger_failures()
        self._replace()
        await self._note_deaths()
        if CONTROLLER in self._deaths:
            return Outcome.failed(self._deaths[CONTROLLER].headline())
        if time.monotonic() > self._verdict_due:
            return Outcome.failed(
                f"the controller did not end the run within {VERDICT_SECONDS:g} s of the first failure"
            )
        return None

    async def _pass_on_signal(self) -> None:
        if self._signals.count == 1 and not self._draining:
            self._draining = True
            self._say("draining: finishing the step and saving; Ctrl-C again stops now")
            await self._tell(Drain(f"{self._signals.name} in the launcher"))

    async def _pass_on_logger_failures(self) -> None:
        for failure in self._loggers.failures[self._told_failures :]:
            self._told_failures += 1
            await self._tell(Failed(failure.error, failure.owner))
            self._expect_verdict()

    def _replace(self) -> None:
        for name, attempt in list(self._inbox.again.items()):
            if self._processes[name].poll() is None:
                self._processes[name].kill()
                continue
            del self._inbox.again[name]
            self._processes[name], self._attempts[name] = self._start_again(name, attempt), attempt
            self._seen_dead.pop(name, None)
            self._deaths.pop(name, None)
            if not self._deaths:
                self._verdict_due = float("inf")

    async def _note_deaths(self) -> None:
        for process in self._processes.values():
            code = process.poll()
            if code is None or process.name in self._deaths or process.name in self._inbox.again:
                continue
            since = self._seen_dead.setdefault(process.name, time.monotonic())
            if time.monotonic() - since >= SETTLE_SECONDS:
                death = self._deaths[process.name] = ProcessExit.of(process, code, self._attempts[process.name])
                await self._tell(death.message())
                self._expect_verdict()

    def _expect_verdict(self) -> None:
        self._verdict_due = min(self._verdict_due, time.monotonic() + VERDICT_SECONDS)

    async def _tell(self, message: Message) -> None:
        try:
            await self._client.notify(message)
        except PeerFailed as error:
            # Its death, or its silence, is what the run fails of.
            self._say(f"the controller cannot be told of {type(message).__name__}: {error}")

    async def _let_stop(self, ended: RunEnded) -> Outcome:
        """The controller has told everybody who listens to stop; those that died of an error are in the report."""
        asked, deadline = self._signals.count, time.monotonic() + STOP_SECONDS
        told = [process for process in self._processes.values() if process.name not in ended.untold]
        while any(process.poll() is None for process in told) and time.monotonic() < deadline:
            if self._signals.count > asked:
                self._say("stopping now")
                break
            await asyncio.sleep(POLL_SECONDS / 2)
        ending = Outcome.said(ended)
        self._note_failed_exits(ending, ended.untold)
        return ending

    def _note_failed_exits(self, ending: Outcome, untold: Sequence[str]) -> None:
        for name, process in self._processes.items():
            code = process.poll()
            if name == CONTROLLER and code == ending.exit_code:
                # It ends as the run did; what it had to say is in `RunEnded`.
                continue
            if code is None and name in untold:
                continue
            if code is None:
                self._say(f"{name} did not stop within {STOP_SECONDS:g} s and is killed. Its log: {process.log}")
            elif code != 0 and name not in self._deaths:
                self._deaths[name] = ProcessExit.of(process, code)
