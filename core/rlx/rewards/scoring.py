"""What the pool is asked, and what it answers: completions, calls about them, and scores.

The rule of this part: a reward is asked about each completion in a call of its own; a group reward is asked once, about
all completions of the prompt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rlx.episodes import Reward
from rlx.errors import RewardError
from rlx.rewards.base import Score, about
from rlx.rewards.messages import Call, Loaded, Raised, Scored, frame
from rlx.rewards.process import WorkerDied
from rlx.rewards.roles import Use

OF_EACH = frozenset({"token_ids", "finish_reason"})
"""What is offered of each completion; the rest is the prompt's."""


@dataclass(frozen=True)
class RewardInput:
    """What the rewards are asked about: one sampled text and where it comes from."""

    text: str
    reference: Any = None
    prompt: str = ""
    token_ids: Sequence[int] = ()
    finish_reason: str | None = None
    example: Any = None
    """The dataset's item."""
    where: str = "the row"
    """How a message speaks of it."""


@dataclass
class Scores:
    """What the rewards said of one completion."""

    rewards: list[Reward] = field(default_factory=list)
    """In the config's order."""
    metrics: dict[str, float] = field(default_factory=dict)
    """`reward/<name>/<metric>` -> value, of rewards that return metrics; `filter/<name>` of filters that are no reward
    of the total.
    """
    filters: list[Reward] = field(default_factory=list)
    """What decides whether the group is informative; empty where the total reward does."""

    def add(self, use: Use, said: Score) -> None:
        name = use.reward.name
        kind = "reward" if use.in_total else "filter"
        if use.in_total:
            self.rewards.append(Reward(name, said.value, use.reward.weight))
        elif said.value is not None:
            self.metrics[f"filter/{name}"] = said.value
        if use.filter_weight is not None:
            self.filters.append(Reward(name, said.value, use.filter_weight))
        self.metrics.update({f"{kind}/{name}/{metric}": value for metric, value in said.metrics.items()})


@dataclass(eq=False)
class RewardCall:
    """One call on its way."""

    use: Use
    owner: str
    places: range
    """Which of the prompt's completions it is about."""
    texts: list[str]
    call: bytes
    answer: asyncio.Future[list[Score]]
    since: float = field(default_factory=time.monotonic)

    def finish(self, reply: Scored | Raised) -> None:
        if isinstance(reply, Raised):
            self.fail(reply.error)
        elif not self.answer.done():
            self.answer.set_result(reply.scores)

    def fail(self, message: str) -> None:
        """The reward failed: `on_error` says what becomes of that."""
        self.end(RewardError(message, owner=self.owner, drop=self.use.reward.on_error == "drop"))

    def end(self, error: RewardError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def lost(self, error: TimeoutError | WorkerDied) -> None:
        """The call has no answer: it took too long, or ended its process."""
        if isinstance(error, WorkerDied):
            self.fail(f"{self.owner}: its process {error}.\n{about(self.texts)}")
            return
        self.fail(
            f"{self.owner} took more than {self.use.reward.timeout_seconds:g} s and was killed. "
            f'Raise its timeout_seconds, or set on_error = "drop".\n{about(self.texts)}'
        )


def jobs_of(use: Use, loaded: Loaded, completions: Sequence[RewardInput]) -> list[RewardCall]:
    """The calls of one reward about the completions of one prompt. Raises RewardError where what comes with them
    can't be sent.
    """
    count = len(completions)
    slices = [range(count)] if loaded.group else [range(place, place + 1) for place in range(count)]
    loop = asyncio.get_running_loop()
    jobs = []
    for places in slices:
        asked = completions[places.start : places.stop]
        call = call_about(asked, use.index, loaded)
        jobs.append(
            RewardCall(use, loaded.owner, places, call.texts, frame(call, asked[0].where), loop.create_future())
        )
    return jobs


def call_about(asked: Sequence[RewardInput], index: int, loaded: Loaded) -> Call:
    """What reward number `index` is sent about completions of one prompt; just one where it is no group reward."""
    texts = [completion.text for completion in asked]
    return Call(index, texts, asked[0].reference, _offered(loaded, asked))


async def settle(jobs: Sequence[RewardCall]) -> None:
    """Waits for all answers. Raises the RewardError that ends the run as soon as there is one, and one that drops
    the group when there are all answers.
    """
    waiting = {job.answer for job in jobs}
    while waiting and not any(not error.drop for error in _errors(jobs)):
        _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
    if errors := _errors(jobs):
        raise min(errors, key=lambda error: error.drop)


def scores_of_each(jobs: Sequence[RewardCall], count: int) -> list[Scores]:
    """The answers by completion."""
    scores = [Scores() for _ in range(count)]
    for job in jobs:
        for place, said in zip(job.places, job.answer.result(), strict=True):
            scores[place].add(job.use, said)
    return scores


def _offered(loaded: Loaded, asked: Sequence[RewardInput]) -> dict[str, Any]:
    def offer(name: str) -> Any:
        return [getattr(completion, name) for completion in asked] if each(name) else getattr(asked[0], name)

    def each(name: str) -> bool:
        return loaded.group and name in OF_EACH

    return {name: offer(name) for name in loaded.wants}


def _errors(jobs: Sequence[RewardCall]) -> list[RewardError]:
    answers = [job.answer for job in jobs if job.answer.done() and not job.answer.cancelled()]
    errors = [answer.exception() for answer in answers]
    return [error for error in errors if isinstance(error, RewardError)]
