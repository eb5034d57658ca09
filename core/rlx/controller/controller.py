"""The lifecycle of a run: wait for its processes, train, end, and stop all of them.

Rules:

* Every failure, wherever it is noticed, becomes the run's one failure (runtime/failure.py).
* Every run ends through DRAINING, with `RunEnded` to the launcher and `Stop` to all other processes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

from msgspec import structs

from rlx.boot import Boot
from rlx.controller.health.members import Members, last_lines
from rlx.controller.health.process_failures import ProcessFailures
from rlx.controller.health.watchdog import Watchdog
from rlx.controller.records.summary import timing_table
from rlx.controller.router import MessageRouter
from rlx.controller.run import Run
from rlx.controller.runtime.services import Services
from rlx.controller.state import RunState, StateMachine
from rlx.errors import RlxError
from rlx.logs import already_reported
from rlx.names import LAUNCHER
from rlx.transport.messages import Message, Ok, RunEnded, Stop

STATUS_SECONDS = 0.3
RUN_ENDED_SECONDS = 10.0
EXIT_REPORT_SECONDS = 1.0
"""Seconds that a failing run waits for the launcher to report exited processes and the last lines of their logs."""

log = logging.getLogger(__name__)


class Controller:
    """The controller of one run. The server calls `handle` for each message; `run` is called once."""

    def __init__(self, services: Services, boot: Boot) -> None:
        self._services = services
        self._state = StateMachine(lambda state: log.info("state: %s", state))
        self._members = Members(services, boot.data)
        self._run = Run(services, boot, self._members, self._state)
        policy = self._run.policy_restarts
        self._failures = ProcessFailures(services, self._members, policy, lambda: self._run.sampling)
        self._router = MessageRouter(services, self._members, self._run, self._failures)

    async def handle(self, peer: str, message: Message) -> Message:
        """Handle a message from a client. If that fails, the run fails, and so does the client's request."""
        try:
            await self._router.route(peer, message)
        except Exception as error:  # the boundary of message handlers: whatever they raise ends the run
            self._services.failure.fail(error)
            raise
        return Ok()

    async def run(self) -> RunEnded:
        """Run to the end, stop all processes, and return the result. A failure of the run is returned, not raised."""
        failure = self._services.failure
        try:
            ended = await failure.guard(self._run_to_end())
        except RlxError as error:
            ended = await self._end_failed(str(error))
        except Exception as error:  # the boundary of the run: even a bug ends it with a summary
            log.exception("internal error of the controller")
            ended = await self._end_failed(f"internal error of the controller, {type(error).__name__}: {error}")
        await self._stop_processes(ended)
        await failure.cancel_all()
        return ended

    async def _run_to_end(self) -> RunEnded:
        services = self._services
        failure, config = services.failure, services.config
        failure.spawn(self._send_status(), "status", lasting=True)
        failure.spawn(self._members.watch(self._failures.restart), "heartbeats", lasting=True)
        watchdog = Watchdog(
            services.progress,
            stall_seconds=config.run.stall_seconds,
            describe=self._run.describe,
            warn=lambda text: services.log("warning", text),
        )
        failure.spawn(watchdog.run(), "watchdog", lasting=True)
        await services.hooks.call("rlx_run_start", config=config, run_dir=services.run_dir)
        await self._members.wait()
        if self._state.ending:
            status = "stopped"
        else:
            status = await self._run.train()
        await self._run.sampling.close()
        summary = self._run.summary(status)
        await self._call_run_end_hooks(summary)
        self._state.drain()
        self._state.to(RunState.DONE)
        return RunEnded(status, summary)

    async def _end_failed(self, error: str) -> RunEnded:
        """End the run with `error`, extended by the last log lines of processes that ended at the same time.

        If the policy is whole, the run saves its trained version first.
        """
        reported = len(self._members.exits)
        self._state.drain()
        await asyncio.sleep(EXIT_REPORT_SECONDS)
        for exited in self._members.exits[reported:]:
            lines = [exited.cause] if exited.cause else exited.last_lines
            if exited.exit_code and not already_reported(lines, exited.exit_code, error):
                error += f"\n{exited.name} ended with exit code {exited.exit_code}{last_lines(exited)}"
        error += await self._run.rescue()
        await self._run.sampling.close()
        summary = self._run.summary("failed") | {"error": error}
        try:
            await self._call_run_end_hooks(summary)
        except RlxError as second:
            error += f"\nAfter that: {second}"
        self._state.to(RunState.FAILED)
        return RunEnded("failed", summary, error)

    async def _call_run_end_hooks(self, summary: dict[str, object]) -> None:
        try:
            await self._services.hooks.call_at_end("rlx_run_end", summary=summary)
        finally:
            # Taken after the hooks: their own time and failures belong in the summary.
            summary["costs"] = timing_table(self._services.timings.total)
            summary["hooks_failed"] = dict(self._services.hook_failures.total)

    async def _send_status(self) -> None:
        while True:
            self._services.notify_launcher(self._run.status())
            await asyncio.sleep(STATUS_SECONDS)

    async def _stop_processes(self, ended: RunEnded) -> None:
        """Send `Stop` to all processes and `RunEnded` to the launcher. Best effort: some may be gone already."""
        channel = self._services.channel
        ended = structs.replace(ended, untold=self._members.unreached())
        for peer in list(channel.peers()):
            if peer != LAUNCHER:
                await _best_effort(channel.notify(peer, Stop(ended.error or ended.status)))
        if LAUNCHER in channel.peers():
            what = "the launcher receives the end of the run"
            await _best_effort(channel.request(LAUNCHER, ended, timeout=RUN_ENDED_SECONDS, what=what))


async def _best_effort(sending: Coroutine[object, object, object]) -> None:
    try:
        await sending
    except RlxError as error:
        log.warning("at the end of the run: %s", error)
