"""The reward pool: every completion is scored in a subprocess that can be killed.

The rules of this part:

* A call that raises, times out, crashes its process or returns no number is a RewardError with the reward's owner and
  the completion; it is never a reward of 0. `drop` on the error says what the config's `on_error` asks for.
* Calls wait in one queue, and each process takes the next when it is free: a slow call holds up no other, as long as
  there is another process. Only the call itself counts against its timeout, not the waiting.
* A process that was killed or died is replaced at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Self

import msgspec

from rlx.boot import Boot, Endpoint
from rlx.errors import RewardError, RlxError
from rlx.plugins.timings import CallTimings
from rlx.rewards.messages import Raised, Ready, RewardSpec, Scored, Start
from rlx.rewards.process import RewardProcess, WorkerDied
from rlx.rewards.roles import Kind, Use, rewards_of, uses_of
from rlx.rewards.scoring import RewardCall, RewardInput, Scores, jobs_of, scores_of_each, settle


class RewardPool:
    """Scores completions with the run's rewards in `config.rollout.reward_workers` processes. `async with` opens it."""

    def __init__(self, boot: Boot, costs: CallTimings | None = None) -> None:
        config = boot.load_config()
        self.costs = CallTimings() if costs is None else costs
        """What the calls cost: every one, whatever became of it."""
        self._uses = uses_of(config)
        specs = [RewardSpec(reward.name, reward.args, reward.group) for reward in rewards_of(self._uses)]
        self._specs = Start(_for_rewards(boot), specs)
        self._start_seconds = config.run.start_seconds
        self._size = config.rollout.reward_workers if specs else 0
        self._queue: asyncio.Queue[RewardCall] = asyncio.Queue()
        self._jobs: dict[RewardCall, None] = {}
        self._processes: set[RewardProcess] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._ready = Ready([])
        self._failure: RewardError | None = None

    async def start(self) -> None:
        """Start the processes and load the rewards. Raises PluginError or RewardError where one can't be loaded."""
        started = await asyncio.gather(*(self._spawn() for _ in range(self._size)), return_exceptions=True)
        for outcome in started:
            if isinstance(outcome, BaseException):
                await self.close()
                raise outcome
        self._tasks = [asyncio.create_task(self._serve(process)) for process in list(self._processes)]
        for task in self._tasks:
            task.add_done_callback(self._served)

    async def score(self, completions: Sequence[RewardInput], kind: Kind = "train") -> list[Scores]:
        """Ask every reward of that kind about the completions of one prompt. Raises RewardError; of several errors,
        one that ends the run.
        """
        if self._failure is not None:
            raise self._failure
        jobs = [job for use in self._uses[kind] for job in self._calls(use, completions)]
        for job in jobs:
            self._submit(job)
        try:
            await settle(jobs)
            return scores_of_each(jobs, len(completions))
        finally:
            for job in jobs:
                job.answer.cancel()

    async def close(self) -> None:
        """Kill the processes; calls that wait are cancelled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for job in self._jobs:
            job.answer.cancel()
        await asyncio.gather(*(process.kill() for process in self._processes))
        self._processes.clear()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def waiting(self) -> int:
        """Calls that have no answer yet."""
        return len(self._jobs)

    def oldest(self) -> tuple[str, float] | None:
        """Owner and age in seconds of the call that has waited longest; None where there is none."""
        job = next(iter(self._jobs), None)
        return (job.owner, time.monotonic() - job.since) if job else None

    def _calls(self, use: Use, completions: Sequence[RewardInput]) -> list[RewardCall]:
        return jobs_of(use, self._ready.rewards[use.index], completions)

    def _submit(self, job: RewardCall) -> None:
        self._jobs[job] = None
        job.answer.add_done_callback(lambda _: self._jobs.pop(job, None))
        self._queue.put_nowait(job)

    async def _spawn(self) -> RewardProcess:
        process, self._ready = await RewardProcess.start(self._specs, self._start_seconds)
        self._processes.add(process)
        return process

    async def _serve(self, process: RewardProcess) -> None:
        while True:
            job = await self._queue.get()
            if not job.answer.done():  # else whoever asked has gone
                process = await self._call(process, job)

    async def _call(self, process: RewardProcess, job: RewardCall) -> RewardProcess:
        """Returns the process that takes the next call."""
        cost, began = f"reward/{job.use.reward.name}", time.monotonic()
        try:
            reply = await process.ask(job.call, job.use.reward.timeout_seconds)
        except (TimeoutError, WorkerDied) as error:
            self.costs.add(cost, time.monotonic() - began)
            job.lost(error)
            return await self._replace(process)
        assert isinstance(reply, Scored | Raised)
        self.costs.add(cost, reply.seconds)
        job.finish(reply)
        return process

    async def _replace(self, process: RewardProcess) -> RewardProcess:
        self._processes.discard(process)
        await process.kill()
        while True:
            try:
                return await self._spawn()
            except RlxError as error:
                (await self._queue.get()).fail(f"A reward's process could not be replaced. {error}")

    def _served(self, task: asyncio.Task[None]) -> None:
        """A task that serves never ends by itself; if it does, nobody may wait for it for ever, `drop` or not."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._failure = RewardError(f"The reward pool failed: {type(error).__name__}: {error}")
        for job in list(self._jobs):
            job.end(self._failure)


def _for_rewards(boot: Boot) -> Boot:
    """What a reward process needs of the boot data: no keys, and no plugins of other kinds."""
    plugins = [record for record in boot.plugins if record.kind in {"rewards", "packers", "hooks"}]
    endpoint = Endpoint(host="", port=0, server_public="", public="", secret="")
    return msgspec.structs.replace(boot, plugins=plugins, endpoint=endpoint, client_keys={})
