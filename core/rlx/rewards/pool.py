"""The reward pool: every completion is scored in a subprocess that can be killed.

Rules:

* A call that raises, times out, crashes its process or returns anything but a reward is a RewardError with the reward's
  owner and the completion; it is never a reward of 0. `drop` on the error is the config's `on_error`.
* Calls wait in one queue, and each process takes the next one when it is free: a slow call delays no other, as long as
  another process is free. The time in the queue doesn't count against a call's timeout.
* A process that died or was killed is replaced at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Self

import msgspec

from rlx.boot import Boot, Endpoint
from rlx.config.sections.data import RewardConfig
from rlx.errors import RewardError, RlxError
from rlx.plugins.timings import CallTimings, HookFailures
from rlx.rewards.messages import CallFailed, Ready, RewardSpec, Scored, Start
from rlx.rewards.process import RewardProcess, WorkerDied
from rlx.rewards.roles import GroupKind, reward_roles, rewards_of
from rlx.rewards.scoring import RewardCall, RewardInput, Scores, collect_scores, make_calls, wait_for_answers


class RewardPool:
    """Scores completions with the run's rewards in `config.rollout.reward_workers` processes. `async with` opens it."""

    def __init__(
        self, boot: Boot, timings: CallTimings | None = None, hook_failures: HookFailures | None = None
    ) -> None:
        config = boot.load_config()
        self.timings = CallTimings() if timings is None else timings
        """Calls and seconds of each reward, failed calls included."""
        self.hook_failures = HookFailures() if hook_failures is None else hook_failures
        """Failures of the hooks that ran in the processes."""
        self._roles = reward_roles(config)
        self._start_message = start_message(boot, rewards_of(self._roles))
        self._start_seconds = config.run.start_seconds
        self._size = config.rollout.reward_workers if self._start_message.rewards else 0
        self._queue: asyncio.Queue[RewardCall] = asyncio.Queue()
        self._open_calls: dict[RewardCall, None] = {}
        """Calls without an answer, oldest first."""
        self._processes: set[RewardProcess] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._ready = Ready([])
        self._failure: RewardError | None = None

    async def start(self) -> None:
        """Start the processes and load the rewards. Raises PluginError or RewardError if one can't be loaded."""
        started = await asyncio.gather(*(self._spawn() for _ in range(self._size)), return_exceptions=True)
        for outcome in started:
            if isinstance(outcome, BaseException):
                await self.close()
                raise outcome
        self._tasks = [asyncio.create_task(self._serve(process)) for process in list(self._processes)]
        for task in self._tasks:
            task.add_done_callback(self._serve_ended)

    async def score(self, completions: Sequence[RewardInput], kind: GroupKind = "train") -> list[Scores]:
        """Score the completions of one prompt with every reward of that kind of group.

        Raises BadRowError if the row can't be sent, and RewardError; of several errors, one that ends the run if there
        is one.
        """
        if self._failure is not None:
            raise self._failure
        calls = [
            call
            for role in self._roles[kind]
            for call in make_calls(role, self._ready.rewards[role.index], completions)
        ]
        for call in calls:
            self._submit(call)
        try:
            await wait_for_answers(calls)
            return collect_scores(calls, len(completions))
        finally:
            for call in calls:
                call.answer.cancel()

    async def close(self) -> None:
        """Kill the processes, and cancel all open calls."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for call in self._open_calls:
            call.answer.cancel()
        await asyncio.gather(*(process.kill() for process in self._processes))
        self._processes.clear()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def oldest(self) -> tuple[str, float] | None:
        """Return owner and age in seconds of the oldest call without an answer; None if all are answered."""
        call = next(iter(self._open_calls), None)
        return (call.owner, time.monotonic() - call.since) if call else None

    def _submit(self, call: RewardCall) -> None:
        self._open_calls[call] = None
        call.answer.add_done_callback(lambda _: self._open_calls.pop(call, None))
        self._queue.put_nowait(call)

    async def _spawn(self) -> RewardProcess:
        process, self._ready = await RewardProcess.start(self._start_message, self._start_seconds)
        self.hook_failures.merge(self._ready.hook_failures)
        self._processes.add(process)
        return process

    async def _serve(self, process: RewardProcess) -> None:
        """Have one process, or the one that replaces it, answer calls from the queue, until cancelled."""
        while True:
            call = await self._queue.get()
            if call.answer.done():  # the caller was cancelled
                continue
            timing, began = f"reward/{call.role.label}", time.monotonic()
            try:
                reply = await process.send(call.frame, call.role.reward.timeout_seconds)
            except (TimeoutError, WorkerDied) as error:
                self.timings.add(timing, time.monotonic() - began)
                call.abort(error)
                process = await self._replace(process)
                continue
            assert isinstance(reply, Scored | CallFailed)
            self.timings.add(timing, reply.seconds)
            call.finish(reply)

    async def _replace(self, process: RewardProcess) -> RewardProcess:
        self._processes.discard(process)
        await process.kill()
        while True:
            try:
                return await self._spawn()
            except RlxError as error:
                (await self._queue.get()).fail(f"A reward's process could not be replaced. {error}")

    def _serve_ended(self, task: asyncio.Task[None]) -> None:
        """Fail all calls if a `_serve` task failed: it never ends by itself, and its calls would wait forever."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._failure = RewardError(f"The reward pool failed: {type(error).__name__}: {error}")
        for call in list(self._open_calls):
            call.set_error(self._failure)


def start_message(boot: Boot, rewards: Sequence[RewardConfig]) -> Start:
    """Return the first message to a reward process: it loads these rewards."""
    specs = [RewardSpec(reward.name, reward.args, reward.group) for reward in rewards]
    plugins = [record for record in boot.plugins if record.kind in {"rewards", "packers", "hooks"}]
    # Without the run's keys: a reward is a plugin's code, and its process talks to the pool only.
    endpoint = Endpoint(host="", port=0, server_public="", public="", secret="")
    return Start(msgspec.structs.replace(boot, plugins=plugins, endpoint=endpoint, client_keys={}), specs)
