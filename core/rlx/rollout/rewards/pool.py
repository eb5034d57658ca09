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
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import msgspec

from rlx.api.reward import shown
from rlx.api.types import Reward
from rlx.config.data import RewardConfig
from rlx.errors import RewardError, RlxError
from rlx.launch.boot import Boot, Endpoint
from rlx.rollout.rewards.calls import Call, FromWorker, Raised, Ready, RewardSpec, Scored, Start, frame
from rlx.rollout.rewards.process import RewardProcess, WorkerDied

Kind = Literal["train", "eval"]


@dataclass(frozen=True)
class Completion:
    """What the rewards are asked about: one sampled text and where it comes from."""

    text: str
    reference: Any = None
    prompt: str = ""
    token_ids: Sequence[int] = ()
    finish_reason: str | None = None
    example: Any = None
    """The dataset's item."""


@dataclass(frozen=True)
class Scores:
    """What the rewards said of one completion."""

    rewards: list[Reward]
    """In the config's order."""
    metrics: dict[str, float]
    """`reward/<name>/<metric>` -> value, of rewards that return metrics."""
    seconds: dict[str, float]
    """Reward -> how long its call took."""


@dataclass(eq=False)
class _Job:
    reward: RewardConfig
    owner: str
    text: str
    call: bytes
    answer: asyncio.Future[Scored]
    since: float = field(default_factory=time.monotonic)

    def finish(self, reply: FromWorker) -> None:
        if isinstance(reply, Raised):
            self.fail(reply.error)
        elif not self.answer.done():
            assert isinstance(reply, Scored)
            self.answer.set_result(reply)

    def fail(self, message: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(RewardError(message, owner=self.owner, drop=self.reward.on_error == "drop"))


class RewardPool:
    """Scores completions with the run's rewards in `config.rollout.reward_workers` processes. `async with` opens it."""

    def __init__(self, boot: Boot) -> None:
        config = boot.load_config()
        own_eval = config.eval.rewards if config.eval is not None else None
        self._rewards = [*config.rewards, *(own_eval or [])]
        train = range(len(config.rewards))
        self._lists: dict[Kind, range] = {
            "train": train,
            "eval": train if own_eval is None else range(len(train), len(self._rewards)),
        }
        self._specs = Start(_for_rewards(boot), [RewardSpec(reward.name, reward.args) for reward in self._rewards])
        self._start_seconds = config.run.start_seconds
        self._size = config.rollout.reward_workers if self._rewards else 0
        self._queue: asyncio.Queue[_Job] = asyncio.Queue()
        self._jobs: dict[_Job, None] = {}
        self._processes: set[RewardProcess] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._ready = Ready([], [])

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

    async def score(self, completion: Completion, kind: Kind = "train") -> Scores:
        """Ask every reward of that kind. Raises RewardError; one without `drop` first where there are several."""
        jobs = [self._job(index, completion) for index in self._lists[kind]]
        for job in jobs:
            self._submit(job)
        answers = await asyncio.gather(*(job.answer for job in jobs), return_exceptions=True)
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        if errors:
            raise min(errors, key=lambda error: isinstance(error, RewardError) and error.drop)
        return _scores(jobs, [job.answer.result() for job in jobs])

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

    def _job(self, index: int, completion: Completion) -> _Job:
        offered = {name: getattr(completion, name) for name in self._ready.wants[index]}
        call = frame(Call(index, completion.text, completion.reference, offered))
        answer = asyncio.get_running_loop().create_future()
        return _Job(self._rewards[index], self._ready.owners[index], completion.text, call, answer)

    def _submit(self, job: _Job) -> None:
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
            if job.answer.done():  # whoever asked has gone
                continue
            try:
                job.finish(await process.ask(job.call, job.reward.timeout_seconds))
            except TimeoutError:
                job.fail(_timed_out(job))
                process = await self._replace(process)
            except WorkerDied as death:
                job.fail(f"{job.owner}: its process {death}.\nThe completion: {shown(job.text)}")
                process = await self._replace(process)

    async def _replace(self, process: RewardProcess) -> RewardProcess:
        self._processes.discard(process)
        await process.kill()
        while True:
            try:
                return await self._spawn()
            except RlxError as error:
                (await self._queue.get()).fail(f"A reward's process could not be replaced. {error}")

    def _served(self, task: asyncio.Task[None]) -> None:
        """A task that serves never ends by itself; if it does, nobody may wait for it for ever."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        for job in list(self._jobs):
            job.fail(f"The reward pool failed: {type(error).__name__}: {error}")


def _scores(jobs: Sequence[_Job], answers: Sequence[Scored]) -> Scores:
    rewards: list[Reward] = []
    metrics: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for job, answer in zip(jobs, answers, strict=True):
        name = job.reward.name
        rewards.append(Reward(name, answer.value, job.reward.weight))
        seconds[name] = seconds.get(name, 0.0) + answer.seconds
        metrics.update({f"reward/{name}/{metric}": value for metric, value in answer.metrics.items()})
    return Scores(rewards, metrics, seconds)


def _timed_out(job: _Job) -> str:
    return (
        f"{job.owner} took more than {job.reward.timeout_seconds:g} s and was killed. "
        f'Raise its timeout_seconds, or set on_error = "drop".\nThe completion: {shown(job.text)}'
    )


def _for_rewards(boot: Boot) -> Boot:
    """What a reward process needs of the boot data: no keys, and no plugins of other kinds."""
    plugins = [record for record in boot.plugins if record.kind in {"rewards", "packers", "hooks"}]
    endpoint = Endpoint(host="", port=0, server_public="", public="", secret="")
    return msgspec.structs.replace(boot, plugins=plugins, endpoint=endpoint, client_keys={})
