"""Turns leases into finished groups: prompt, completions, episodes, rewards, hook, message.

Rules:

* A group begins when the engine has room for it, in the order of leases. Until then it costs nothing and its lease can
  be taken back.
* Each group that has begun has its own task: while one is scored, others are sampled.
* Every group ends in `GroupDone` or `GroupFailed`, which names the responsible component. Only errors that
  concern the whole replica (a dead engine, a bug) go to `on_failure`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from rlx.config.schema import Config
from rlx.episodes import total_of
from rlx.errors import BadRowError, ProcessDied, RlxError, bad_row
from rlx.packers.loss_mask import apply_policy_input
from rlx.rewards.pool import RewardPool
from rlx.rewards.roles import GroupKind
from rlx.rewards.scoring import RewardInput
from rlx.rollout.completion import Completion
from rlx.rollout.groups import failed_group, finished_group, make_episodes
from rlx.rollout.prompts import Prompts
from rlx.transport.messages import GroupDone, GroupFailed, Lease, Leases, RolloutStats

if TYPE_CHECKING:
    from rlx.rollout.engine import Engine
    from rlx.rollout.requests import PendingRequests


@dataclass(frozen=True)
class PromptSource:
    """The dataset that leases of one kind are sampled from, with the sampling parameters."""

    prompts: Prompts
    temperature: float
    max_tokens: int
    drop_bad_rows: bool = True
    """Whether rows that can't be used are dropped; else the first of them ends the run."""

    def tokens(self, index: int, context: int) -> list[int]:
        """Return the prompt of row `index`. Raises BadRowError if a context of `context` tokens has no room for a
        completion behind it, and like `Prompts.tokens`.
        """
        prompt = self.prompts.tokens(index)
        if len(prompt) >= context:
            raise BadRowError(
                f"{self.prompts.view.where(index)}: its prompt has {len(prompt)} tokens, and the model's context of "
                f"{context} must hold the prompt and at least one token more",
                reason="too_long",
            )
        return prompt


@dataclass(eq=False)
class GroupTask:
    """A group that waits, or is being sampled or scored."""

    lease: Lease
    phase: str = "waiting"
    """`waiting`, `sampling` or `scoring`."""
    started_at: float = 0.0
    prompt: list[int] = field(default_factory=list)
    sampled_at: float = 0.0


class Sampler:
    """Samples and scores leased groups. `scored(group=episodes)` is called for each group before it is sent."""

    def __init__(
        self,
        engine: Engine,
        pool: RewardPool,
        sources: Mapping[str, PromptSource],
        *,
        send: Callable[[GroupDone | GroupFailed], Awaitable[None]],
        scored: Callable[..., Awaitable[object]],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._engine = engine
        self._pool = pool
        self._sources = sources
        self._send = send
        self._scored = scored
        self._on_failure = on_failure
        self._groups: dict[GroupTask, asyncio.Task[None] | None] = {}
        self._waiting: deque[GroupTask] = deque()
        self._beginning = asyncio.Lock()
        self._fills: set[asyncio.Task[None]] = set()
        engine.on_room = self._fill_later

    async def take(self, leases: Leases) -> None:
        """Sample the leases' groups, in order. They are sent as they finish.

        Behind a barrier all of them begin at once, whatever room the engine has, and those that are left of an earlier
        batch are given up: the controller has them already, since it waits for a batch before it sends the next one.
        """
        if leases.barrier:
            await self._abandon()
            groups = self._add(leases.leases)
            async with self._beginning, self._engine.barrier(leases.seed):
                for group in groups:
                    await self._begin(group)
        else:
            # The controller leases a group again if it believes that the replica has lost it.
            held = {(group.lease.kind, group.lease.group_id) for group in self._groups}
            new = [lease for lease in leases.leases if (lease.kind, lease.group_id) not in held]
            self._waiting.extend(self._add(new))
            await self._fill()

    def take_back(self, kind: str, most: int) -> list[int]:
        """Give up to `most` leases of groups that have not begun, the last ones first, and return their ids."""
        last_first = [group for group in reversed(self._waiting) if group.lease.kind == kind]
        given = last_first[:most]
        for group in given:
            self._waiting.remove(group)
            del self._groups[group]
        return [group.lease.group_id for group in given]

    def _add(self, leases: Iterable[Lease]) -> list[GroupTask]:
        groups = [GroupTask(lease) for lease in leases]
        self._groups.update(dict.fromkeys(groups))
        return groups

    def stats(self) -> RolloutStats:
        """Return the current load."""
        begun = (group for group in self._groups if group.phase != "waiting")
        groups = sorted(begun, key=lambda group: group.started_at)
        held: dict[str, list[int]] = {kind: [] for kind in self._sources}
        for group in self._groups:
            held[group.lease.kind].append(group.lease.group_id)
        phase = groups[0].phase if groups else ""
        if phase == "scoring" and (reward := self._pool.oldest()):
            phase = reward[0]
        return RolloutStats(
            running=sum(group.phase == "sampling" for group in groups),
            oldest_seconds=time.monotonic() - groups[0].started_at if groups else 0.0,
            oldest_stage=phase,
            busy_seconds=self._engine.busy_seconds,
            tokens=self._engine.tokens,
            busy=self._engine.busy,
            held=held,
        )

    async def close(self) -> None:
        """Cancel all unfinished groups."""
        for task in self._fills:
            task.cancel()
        await self._abandon()

    async def _fill(self) -> None:
        """Begin groups that wait, in order, while the engine has room."""
        async with self._beginning:
            while self._waiting and self._engine.room:
                await self._begin(self._waiting.popleft())

    def _fill_later(self) -> None:
        if self._waiting:
            task = asyncio.create_task(self._fill())
            self._fills.add(task)
            task.add_done_callback(self._filled)

    def _filled(self, task: asyncio.Task[None]) -> None:
        self._fills.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(error)

    async def _begin(self, group: GroupTask) -> None:
        lease, source = group.lease, self._sources[group.lease.kind]
        group.started_at, group.phase = time.monotonic(), "sampling"
        try:
            group.prompt = source.tokens(lease.index, self._engine.context)
            pending = await self._engine.submit(
                group.prompt, samples=lease.samples, max_tokens=source.max_tokens, temperature=source.temperature
            )
        except ProcessDied:
            raise
        except RlxError as error:
            await self._send(self._failed(lease, error))
            del self._groups[group]
            return
        task = asyncio.create_task(self._finish(group, pending))
        self._groups[group] = task
        task.add_done_callback(partial(self._remove, group))

    async def _abandon(self) -> None:
        """Cancel all groups."""
        self._waiting.clear()
        tasks = [task for task in self._groups.values() if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._groups.clear()

    async def _finish(self, group: GroupTask, pending: PendingRequests) -> None:
        try:
            completions = await self._engine.collect(pending)
            group.sampled_at, group.phase = time.monotonic(), "scoring"
            await self._send(await self._score(group, completions))
        except ProcessDied:
            raise
        except RlxError as error:
            await self._send(self._failed(group.lease, error))

    async def _score(self, group: GroupTask, completions: list[Completion]) -> GroupDone:
        lease = group.lease
        prompts = self._sources[lease.kind].prompts
        episodes = make_episodes(lease, group.prompt, completions, prompts.tokenizer)
        with bad_row("dataset"):
            example, reference = prompts.view.item(lease.index), prompts.view.reference(lease.index)
            where = prompts.view.where(lease.index)
        kind: GroupKind = "eval" if lease.kind == "eval" else "train"
        if kind == "train":
            with bad_row("packer"):
                apply_policy_input(prompts.packer, example, episodes, prompts.tokenizer, where=where)
        inputs = [
            RewardInput(
                episode.text,
                reference=reference,
                prompt=episode.prompt_text,
                token_ids=completion.tokens,
                finish_reason=completion.finish_reason,
                example=example,
                where=where,
            )
            for episode, completion in zip(episodes, completions, strict=True)
        ]
        scores = await self._pool.score(inputs, kind)
        for episode, score in zip(episodes, scores, strict=True):
            episode.rewards = score.rewards
            episode.metrics.update(score.metrics)
        await self._scored(group=episodes)
        return finished_group(
            lease,
            group.prompt,
            episodes,
            reference=reference,
            filters=[total_of(score.filters) for score in scores if score.filters],
            generate_seconds=group.sampled_at - group.started_at,
            score_seconds=time.monotonic() - group.sampled_at,
        )

    def _failed(self, lease: Lease, error: RlxError) -> GroupFailed:
        source = self._sources[lease.kind]
        if isinstance(error, BadRowError) and error.reason == "engine":  # which knows no rows
            error = BadRowError(f"{source.prompts.view.where(lease.index)}: {error}", reason=error.reason)
        return failed_group(lease, error, drop_bad_rows=source.drop_bad_rows)

    def _remove(self, group: GroupTask, task: asyncio.Task[None]) -> None:
        self._groups.pop(group, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(error)


def prompt_sources(config: Config, train: Prompts, evaluation: Prompts | None) -> dict[str, PromptSource]:
    """Return the prompt source for each kind of lease."""
    rollout = config.rollout
    drop = config.dataset.on_bad_row == "drop"
    sources = {"train": PromptSource(train, rollout.temperature, rollout.max_tokens, drop)}
    if config.eval is not None and evaluation is not None:
        sources["eval"] = PromptSource(
            evaluation,
            config.eval.temperature,
            config.eval.max_tokens or rollout.max_tokens,
            config.eval.dataset.on_bad_row == "drop",
        )
    return sources
