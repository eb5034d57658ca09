"""From a lease to a finished group: prompt, completions, episodes, rewards, hook, message.

The rules of this part:

* A group is a task of its own: while one is scored, others are sampled.
* Nothing that happens to a group is kept back: it ends in `GroupDone` or `GroupFailed`, with who answers for it. Only
  what concerns the whole replica (a dead engine, a defect) leaves through `on_failure`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from rlx.config.schema import Config
from rlx.episodes import total_of
from rlx.errors import ProcessDied, RlxError
from rlx.packers.loss_mask import apply_policy_input
from rlx.rewards.pool import RewardPool
from rlx.rewards.roles import Kind
from rlx.rewards.scoring import RewardInput
from rlx.rollout.completion import Completion
from rlx.rollout.groups import failed_group, finished_group, make_episodes
from rlx.rollout.prompts import Prompts
from rlx.transport.messages import GroupDone, GroupFailed, Lease, Leases, RolloutStats

if TYPE_CHECKING:
    from rlx.rollout.engine import Engine, Pending


@dataclass(frozen=True)
class Rows:
    """What leases of one kind are sampled from, and how."""

    prompts: Prompts
    temperature: float
    max_tokens: int


@dataclass(eq=False)
class GroupTask:
    """A lease on its way."""

    lease: Lease
    stage: str = "sampling"
    since: float = field(default_factory=time.monotonic)
    prompt: list[int] = field(default_factory=list)
    sampled_at: float = 0.0


class Sampler:
    """Takes leases, sends groups. `scored(group=...)` is called with each group's episodes before they leave."""

    def __init__(
        self,
        engine: Engine,
        pool: RewardPool,
        rows: dict[str, Rows],
        *,
        send: Callable[[GroupDone | GroupFailed], Awaitable[None]],
        scored: Callable[..., object],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._engine = engine
        self._pool = pool
        self._rows = rows
        self._send = send
        self._scored = scored
        self._on_failure = on_failure
        self._jobs: dict[GroupTask, asyncio.Task[None]] = {}

    async def take(self, leases: Leases) -> None:
        """Put the leases' prompts into the engine, in their order; the groups leave when they are done."""
        if leases.barrier:
            async with self._engine.barrier(leases.seed):
                await self._submit(leases.leases)
        else:
            await self._submit(leases.leases)

    def stats(self) -> RolloutStats:
        """What the replica is about."""
        jobs = sorted(self._jobs, key=lambda job: job.since)
        sampling = sum(job.stage == "sampling" for job in jobs)
        return RolloutStats(
            running=sampling,
            waiting_reward=len(jobs) - sampling,
            oldest_seconds=time.monotonic() - jobs[0].since if jobs else 0.0,
            oldest_stage=self._stage(jobs[0]) if jobs else "",
            busy_seconds=self._engine.busy_seconds,
            tokens=self._engine.tokens,
        )

    async def close(self) -> None:
        """Give up what is on its way."""
        tasks = list(self._jobs.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _submit(self, leases: list[Lease]) -> None:
        for lease in leases:
            job = GroupTask(lease)
            try:
                pending = await self._enter(job)
            except ProcessDied:
                raise
            except RlxError as error:
                await self._send(failed_group(lease, error))
                continue
            task = asyncio.create_task(self._finish(job, pending))
            self._jobs[job] = task
            task.add_done_callback(partial(self._ended, job))

    async def _enter(self, job: GroupTask) -> Pending:
        rows = self._rows[job.lease.kind]
        job.prompt = rows.prompts.tokens(job.lease.index)
        return await self._engine.submit(
            job.prompt, samples=job.lease.samples, max_tokens=rows.max_tokens, temperature=rows.temperature
        )

    async def _finish(self, job: GroupTask, pending: Pending) -> None:
        try:
            sampled = await self._engine.collect(pending)
            job.sampled_at, job.stage = time.monotonic(), "scoring"
            await self._send(await self._score(job, sampled))
        except ProcessDied:
            raise
        except RlxError as error:
            await self._send(failed_group(job.lease, error))

    async def _score(self, job: GroupTask, sampled: list[Completion]) -> GroupDone:
        prompts = self._rows[job.lease.kind].prompts
        episodes = make_episodes(job.lease, job.prompt, sampled, prompts.tokenizer)
        example, reference = prompts.view.item(job.lease.index), prompts.view.reference(job.lease.index)
        kind: Kind = "eval" if job.lease.kind == "eval" else "train"
        where = prompts.view.where(job.lease.index)
        if kind == "train":
            apply_policy_input(prompts.packer, example, episodes, prompts.tokenizer, where=where)
        completions = [
            RewardInput(episode.text, reference, episode.prompt_text, one.tokens, one.finish_reason, example, where)
            for episode, one in zip(episodes, sampled, strict=True)
        ]
        scores = await self._pool.score(completions, kind)
        for episode, score in zip(episodes, scores, strict=True):
            episode.rewards = score.rewards
            episode.metrics.update(score.metrics)
        self._scored(group=episodes)
        return finished_group(
            job.lease,
            job.prompt,
            episodes,
            filters=[total_of(score.filters) for score in scores if score.filters],
            generate_seconds=job.sampled_at - job.since,
            score_seconds=time.monotonic() - job.sampled_at,
        )

    def _ended(self, job: GroupTask, task: asyncio.Task[None]) -> None:
        del self._jobs[job]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(error)

    def _stage(self, job: GroupTask) -> str:
        oldest = self._pool.oldest() if job.stage == "scoring" else None
        return oldest[0] if oldest else job.stage


def rows_of(config: Config, train: Prompts, evaluation: Prompts | None) -> dict[str, Rows]:
    """Lease kind -> what it is sampled from."""
    rollout = config.rollout
    rows = {"train": Rows(train, rollout.temperature, rollout.max_tokens)}
    if config.eval is not None and evaluation is not None:
        rows["eval"] = Rows(evaluation, config.eval.temperature, config.eval.max_tokens or rollout.max_tokens)
    return rows
