"""The controller: routes what the other processes send, starts the work, and brings every run to an end that is
told.

Whatever goes wrong, wherever it is noticed, becomes one failure (failure.py); every ending passes through DRAINING
and closes with `RunEnded` for the launcher and `Stop` for everybody else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from msgspec import structs

from rlx.boot import Boot
from rlx.controller.build import rows_work, sampling_work
from rlx.controller.context import Context
from rlx.controller.health.members import Members, last_lines
from rlx.controller.health.watchdog import Watchdog
from rlx.controller.loop import Loop
from rlx.controller.modes.mode import TrainingMode
from rlx.controller.modes.rl import RLMode
from rlx.controller.records import checkpoint
from rlx.controller.records.best import Best
from rlx.controller.records.checkpoint import Saved
from rlx.controller.records.summary import Totals, cost_table, summarise
from rlx.controller.state import State, StateMachine
from rlx.errors import ProcessDied, RlxError, RunError, owned
from rlx.logs import already_reported
from rlx.names import LAUNCHER
from rlx.transport.messages import (
    Drain,
    Failed,
    GroupDone,
    GroupFailed,
    Log,
    Message,
    Ok,
    PolicyReady,
    ProcessExited,
    RolloutReady,
    RolloutStats,
    RunEnded,
    Status,
    Stop,
)

STATUS_SECONDS = 0.3
GOODBYE_SECONDS = 10.0
KILLED = 128
"""A process that signal n has ended has the exit code 128 + n."""
LAST_WORDS_SECONDS = 1.0
"""How long a failure waits for the launcher to report which process ended, and with which last lines."""

log = logging.getLogger(__name__)


class Controller:
    """One run's controller. `handle` and `run` are all that the process needs."""

    def __init__(self, context: Context, boot: Boot) -> None:
        self._context = context
        self._boot = boot
        self._state = StateMachine(lambda state: log.info("state: %s", state))
        self._roster = Members(context, boot.data)
        self._totals = Totals()
        self._work: TrainingMode | None = None
        self._loop: Loop | None = None
        self._reason = ""

    async def handle(self, peer: str, message: Message) -> Message:
        """What a client sent. What goes wrong with it is the run's failure, and the sender's too where it asked."""
        try:
            await self._take(peer, message)
        except Exception as error:
            self._context.failure.fail(error)
            raise
        return Ok()

    async def _take(self, peer: str, message: Message) -> None:
        match message:
            case GroupDone() | GroupFailed() | RolloutStats():
                await self._from_rollout(peer, message)
            case RolloutReady():
                self._roster.rollout_ready(peer, message)
                if isinstance(self._work, RLMode):
                    self._work.ready(peer)
            case PolicyReady():
                self._context.costs.merge(message.costs)
                self._roster.policy_ready(message)
            case Log():
                self._context.log(message.level, f"{peer}: {message.text}")
            case Drain():
                self._drain(message.reason)
            case Failed():
                await self._failed(peer, message)
            case ProcessExited():
                await self._exited(message)
            case _:
                raise RunError(f"{peer} sent {type(message).__name__}, which the controller does not take")

    async def run(self) -> RunEnded:
        """The whole run, told to everybody. Never raises for what went wrong in it."""
        failure = self._context.failure
        try:
            ended = await failure.guard(self._whole_run())
        except RlxError as error:
            ended = await self._failed_end(str(error))
        except Exception as error:
            log.exception("the controller has a defect")
            ended = await self._failed_end(f"internal error of the controller, {type(error).__name__}: {error}")
        await self._say_goodbye(ended)
        await failure.cancel_all()
        return ended

    async def _whole_run(self) -> RunEnded:
        failure, context = self._context.failure, self._context
        failure.spawn(self._tell_status(), "status")
        failure.spawn(self._roster.watch(self._replaced), "heartbeats")
        stall = context.config.run.stall_seconds
        watchdog = Watchdog(
            context.progress,
            stall_seconds=stall,
            describe=self._describe,
            warn=lambda text: context.log("warning", text),
        )
        failure.spawn(watchdog.run(), "watchdog")
        context.hooks.rlx_run_start(config=context.config, run_dir=context.run_dir)
        await self._roster.wait()
        if self._state.ending:
            status = "stopped"
        else:
            status = await self._begin().run()
            self._reason = self._loop.reason if self._loop else ""
        await self._close_work()
        summary = self._summary(status)
        self._tell_hooks(summary)
        self._state.drain()
        self._state.to(State.DONE)
        return RunEnded(status, summary)

    def _begin(self) -> Loop:
        saved = self._resumed()
        version = saved.version if saved else 0
        self._check_policy(version)
        if self._boot.rollouts:
            self._work = sampling_work(self._context, self._roster, saved, self._totals)
        else:
            self._work = rows_work(self._context, self._roster, saved)
        before = saved.seconds if saved else 0.0
        self._loop = Loop(self._context, self._work, self._state, self._totals, version=version, before=before)
        return self._loop

    def _resumed(self) -> Saved | None:
        if self._boot.resume_from is None:
            return None
        for path in checkpoint.torn(self._context.run_dir):
            self._context.log("warning", f"{path} was torn by a crash and is skipped")
        saved = checkpoint.load(self._context.run_dir / self._boot.resume_from)
        self._totals.evaluations = list(saved.evaluations)
        self._totals.logprob_diff_max = saved.logprob_diff_max
        return saved

    def _check_policy(self, version: int) -> None:
        policy = self._roster.policy
        assert policy is not None
        if policy.step != version:
            raise RunError(f"the policy stands at step {policy.step}, and the checkpoint at step {version}")

    async def _from_rollout(self, peer: str, message: GroupDone | GroupFailed | RolloutStats) -> None:
        if isinstance(message, GroupDone | GroupFailed):
            self._context.costs.merge(message.costs)
        if not isinstance(self._work, RLMode):
            return  # an engine reports from its start on; there is nothing to count yet
        if isinstance(message, GroupDone):
            await self._work.finished(peer, message)
        elif isinstance(message, GroupFailed):
            await self._work.failed(peer, message)
        else:
            self._work.reported(peer, message)

    def _drain(self, reason: str) -> None:
        self._reason = reason
        if self._loop is not None:
            self._context.log("info", f"draining: {reason}. The step that is going on is finished and saved.")
            self._loop.drain(reason)
        else:
            self._context.log("info", f"stopping: {reason}. Nothing was begun yet.")
            self._state.drain()
            self._roster.give_up()

    async def _failed(self, peer: str, message: Failed) -> None:
        log.error("%s failed: %s\n%s", peer, message.error, message.traceback)
        if self._is_past(peer, self._context.channel.peers()[peer].attempt):
            return
        error = f"{peer}: {owned(message.error, message.owner)}"
        if not (message.died and await self._replaced(peer, error)):
            self._context.failure.fail(RunError(error + self._restarts_told()))

    async def _exited(self, message: ProcessExited) -> None:
        name, code = message.name, message.exit_code
        if self._is_past(name, message.attempt):
            return
        if not (code > KILLED and await self._replaced(name, f"{name} was killed by signal {code - KILLED}")):
            self._context.failure.fail(ProcessDied(self._roster.exited(message) + self._restarts_told()))

    def _is_past(self, name: str, attempt: int) -> bool:
        """Whether a replica's next attempt has its place already: the last words of the one before are no news."""
        if not isinstance(self._work, RLMode) or name not in self._context.replicas:
            return False
        return not self._work.holds(name, attempt)

    def _restarts_told(self) -> str:
        restarts = self._work.restarts if self._work else 0
        return f"\nReplicas were started again {restarts} times ([rollout] restarts)." if restarts else ""

    async def _replaced(self, name: str, why: str) -> bool:
        """Whether a replica that died is started again."""
        if not isinstance(self._work, RLMode) or name not in self._context.replicas:
            return False
        self._roster.leave(name)
        return await self._work.lose(name, why)

    def _describe(self) -> str:
        held = self._work.describe() if self._work else ""
        return "; ".join(part for part in (self._context.progress.current, held) if part)

    async def _tell_status(self) -> None:
        stall = self._context.config.run.stall_seconds
        while True:
            idle = self._context.progress.idle_seconds
            waiting = self._describe() if idle >= stall else self._context.progress.current
            self._context.tell_launcher(self._status(waiting))
            await asyncio.sleep(STATUS_SECONDS)

    def _status(self, waiting: str) -> Status:
        steps = self._context.config.run.steps
        if self._loop is None:
            return Status(self._state.state, 0, steps, 0.0, waiting, {})
        return Status(self._state.state, self._loop.version, steps, self._loop.seconds, waiting, self._loop.metrics)

    def _summary(self, status: str) -> dict[str, Any]:
        version = self._loop.version if self._loop else 0
        return summarise(
            self._totals,
            status=status,
            reason=self._reason,
            steps=version,
            seconds=self._loop.seconds if self._loop else 0.0,
            trained=version * self._context.config.policy.groups_per_step if self._boot.rollouts else 0,
            dropped=self._work.dropped if self._work else 0,
            uninformative=self._work.uninformative if self._work else 0,
            restarts=self._work.restarts if self._work else 0,
            lost=self._lost(),
            best=Best(self._context.config.checkpoint.best, self._totals.evaluations).entry(self._context.run_dir),
            run_dir=self._context.run_dir,
            costs=self._context.costs.total,
        )

    async def _failed_end(self, error: str) -> RunEnded:
        told = len(self._roster.exits)
        self._state.drain()
        await asyncio.sleep(LAST_WORDS_SECONDS)
        for exited in self._roster.exits[told:]:
            if exited.exit_code and not already_reported(exited.last_lines, exited.exit_code, error):
                error += f"\n{exited.name} ended with exit code {exited.exit_code}{last_lines(exited)}"
        await self._close_work()
        summary = self._summary("failed") | {"error": error}
        try:
            self._tell_hooks(summary)
        except RlxError as second:
            error += f"\nAfter that: {second}"
        self._state.to(State.FAILED)
        return RunEnded("failed", summary, error)

    def _tell_hooks(self, summary: dict[str, Any]) -> None:
        """What they take for it themselves is part of the summary."""
        try:
            self._context.hooks.rlx_run_end(summary=summary)
        finally:
            summary["costs"] = cost_table(self._context.costs.total)

    def _lost(self) -> int | None:
        try:
            return self._work.lost() if self._work else 0
        except RlxError as error:
            log.error("the ledger could not be counted: %s", error)  # noqa: TRY400 - it is the end of a run that failed of this
            return None

    async def _close_work(self) -> None:
        if self._work is not None:
            await self._work.close()

    async def _say_goodbye(self, ended: RunEnded) -> None:
        """Best effort for each: who is gone already, or still starting, cannot be told."""
        channel = self._context.channel
        ended = structs.replace(ended, untold=self._roster.unreached())
        for peer in list(channel.peers()):
            if peer != LAUNCHER:
                await self._try_to_tell(channel.notify(peer, Stop(ended.error or ended.status)))
        if LAUNCHER in channel.peers():
            what = "the launcher hears of the end of the run"
            await self._try_to_tell(channel.request(LAUNCHER, ended, timeout=GOODBYE_SECONDS, what=what))

    async def _try_to_tell(self, telling: Coroutine[Any, Any, object]) -> None:
        try:
            await telling
        except RlxError as error:
            log.warning("at the end: %s", error)
