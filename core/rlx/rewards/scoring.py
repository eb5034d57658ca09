"""Score one group: make its calls, wait for their answers, and collect the scores by completion.

Rule: a reward is called once for each completion; a group reward is called once, with all completions of the prompt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rlx.episodes import Reward
from rlx.errors import RewardError
from rlx.rewards.messages import Call, CallFailed, Loaded, Scored, frame
from rlx.rewards.process import WorkerDied
from rlx.rewards.result import Score, quote_first
from rlx.rewards.roles import RewardRole

PER_COMPLETION = frozenset({"token_ids", "finish_reason"})
"""Offers that differ between the completions of a prompt."""


@dataclass(frozen=True)
class RewardInput:
    """One sampled text to score, with its prompt and dataset row."""

    text: str
    reference: object = None
    prompt: str = ""
    token_ids: Sequence[int] = ()
    finish_reason: str | None = None
    example: object = None
    """The dataset's item."""
    where: str = "the row"
    """The row's name, for messages."""


@dataclass
class Scores:
    """All rewards' scores of one completion."""

    rewards: list[Reward] = field(default_factory=list)
    """In the config's order."""
    metrics: dict[str, float] = field(default_factory=dict)
    """`reward/<name>/<metric>` -> value, for rewards that return metrics; `filter/<name>` for filters that are not part
    of the total reward.
    """
    filters: list[Reward] = field(default_factory=list)
    """Decide whether the group is informative; empty if the total reward does."""

    def add(self, role: RewardRole, score: Score) -> None:
        """Add the score of one reward."""
        name = role.label
        kind = "reward" if role.in_total else "filter"
        if role.in_total:
            self.rewards.append(Reward(name, score.value, role.reward.weight))
        elif score.value is not None:
            self.metrics[f"filter/{name}"] = score.value
        if role.filter_weight is not None:
            self.filters.append(Reward(name, score.value, role.filter_weight))
        self.metrics.update({f"{kind}/{name}/{metric}": value for metric, value in score.metrics.items()})


@dataclass(eq=False)
class RewardCall:
    """One call, from the queue to its answer."""

    role: RewardRole
    owner: str
    indices: range
    """The completions of the prompt that it scores."""
    texts: list[str]
    frame: bytes
    answer: asyncio.Future[list[Score]]
    since: float = field(default_factory=time.monotonic)
    """When it was put into the queue, on the monotonic clock."""

    def finish(self, reply: Scored | CallFailed) -> None:
        """Set the answer to a worker's reply."""
        if isinstance(reply, CallFailed):
            self.fail("\n".join(filter(None, [reply.error, reply.trace])))
        elif not self.answer.done():
            self.answer.set_result(reply.scores)

    def fail(self, message: str) -> None:
        """Set a RewardError; it drops the group if the reward's `on_error` says so."""
        self.set_error(RewardError(message, owner=self.owner, drop=self.role.reward.on_error == "drop"))

    def set_error(self, error: RewardError) -> None:
        """Set an error as the answer, unless the call has been answered."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def abort(self, error: TimeoutError | WorkerDied) -> None:
        """Fail the call because it took too long or ended its process."""
        self.fail(abort_message(self.owner, error, self.role.reward.timeout_seconds, self.texts))


def make_calls(role: RewardRole, loaded: Loaded, completions: Sequence[RewardInput]) -> list[RewardCall]:
    """Return the calls of one reward for the completions of one prompt.

    Raises RewardError if a reference or item can't be sent.
    """
    count = len(completions)
    slices = [range(count)] if loaded.group else [range(index, index + 1) for index in range(count)]
    loop = asyncio.get_running_loop()
    calls = []
    for indices in slices:
        scored = completions[indices.start : indices.stop]
        message = call_message(scored, role.index, loaded)
        data = frame(message, scored[0].where)
        calls.append(RewardCall(role, loaded.owner, indices, message.texts, data, loop.create_future()))
    return calls


def call_message(completions: Sequence[RewardInput], index: int, loaded: Loaded) -> Call:
    """Return the message that has reward number `index` score completions of one prompt: all of them if it is a group
    reward, else just one.
    """
    first = completions[0]
    offered: dict[str, object] = {}
    for name in loaded.wants:
        if loaded.group and name in PER_COMPLETION:
            offered[name] = [getattr(completion, name) for completion in completions]
        else:
            offered[name] = getattr(first, name)
    return Call(index, [completion.text for completion in completions], first.reference, offered)


def abort_message(owner: str, error: TimeoutError | WorkerDied, timeout: float, texts: Sequence[str]) -> str:
    """Return the message about a call that took longer than `timeout` seconds or ended its process."""
    if isinstance(error, WorkerDied):
        return f"{owner}: its process {error}.\n{quote_first(texts)}"
    return (
        f"{owner} took more than {timeout:g} s and was killed. "
        f'Raise its timeout_seconds, or set on_error = "drop".\n{quote_first(texts)}'
    )


async def wait_for_answers(calls: Sequence[RewardCall]) -> None:
    """Wait until all calls have been answered.

    A RewardError that ends the run is raised at once; one that drops the group, after all calls have been answered.
    """
    waiting = {call.answer for call in calls}
    while waiting and not any(not error.drop for error in _errors(calls)):
        _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
    if errors := _errors(calls):
        raise min(errors, key=lambda error: error.drop)


def collect_scores(calls: Sequence[RewardCall], count: int) -> list[Scores]:
    """Return the scores of each of the `count` completions, from the answers to `calls`."""
    scores = [Scores() for _ in range(count)]
    for call in calls:
        for index, score in zip(call.indices, call.answer.result(), strict=True):
            scores[index].add(call.role, score)
    return scores


def _errors(calls: Sequence[RewardCall]) -> list[RewardError]:
    answers = [call.answer for call in calls if call.answer.done() and not call.answer.cancelled()]
    errors = [answer.exception() for answer in answers]
    return [error for error in errors if isinstance(error, RewardError)]
