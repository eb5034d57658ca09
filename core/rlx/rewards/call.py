"""One call, answered by one reward: what a reward process does, and what also works without a process."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any

from rlx.rewards.base import BoundReward, Score, score_of, scores_of
from rlx.rewards.messages import Call, Loaded

OWN = ("tokenizer", "config", "data_packer")
"""What a reward's process itself offers; the rest comes with each call."""


def loaded_of(reward: BoundReward, owner: str, *, group: bool | None) -> Loaded:
    """What the pool must know of a reward. `group` is what the config says; None: what the reward's author says."""
    return Loaded(owner, sorted(reward.wants - set(OWN)), reward.group if group is None else group)


class Asker:
    """Asks rewards. All that are async run in one event loop, so that a reward may keep a client open."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, reward: BoundReward, loaded: Loaded, call: Call, own: Mapping[str, Any]) -> list[Score]:
        """A score for each of the call's texts. `own` is offered besides what the call offers.

        Raises what the reward raises, and RewardError where it returns no reward.
        """
        evaluated = call.texts if loaded.group else call.texts[0]
        result = reward(evaluated, call.reference, {**own, **call.offered})
        if inspect.isawaitable(result):
            result = self._wait(result)
        if loaded.group:
            return scores_of(result, loaded.owner, call.texts)
        return [score_of(result, loaded.owner, call.texts[0])]

    def close(self) -> None:
        if self._loop is not None:
            self._loop.close()

    def _wait(self, result: Any) -> Any:
        async def wait() -> Any:
            return await result

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(wait())
