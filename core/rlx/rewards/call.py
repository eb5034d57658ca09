"""One call of one reward. Runs in a reward process, and also without one (in the contract suite)."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Mapping

from rlx.rewards.bound import BoundReward
from rlx.rewards.messages import Call, Loaded
from rlx.rewards.result import Score, score_of, scores_of

PROCESS_OFFERS = ("tokenizer", "config", "data_packer")
"""Those of OFFERED that a reward process has itself; the others come with each call."""


def loaded_message(reward: BoundReward, owner: str, *, group: bool | None) -> Loaded:
    """Describe a reward to the pool. `group` is the config's; None: as the reward's author marked it."""
    return Loaded(owner, sorted(reward.accepts - set(PROCESS_OFFERS)), reward.group if group is None else group)


class RewardCaller:
    """Calls rewards. All async rewards run in one event loop, so that one may keep a client open between calls."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def __call__(
        self, reward: BoundReward, loaded: Loaded, call: Call, process_offers: Mapping[str, object]
    ) -> list[Score]:
        """Return a score for each of the call's texts. `process_offers` are offered in addition to those of the call.

        Raises the reward's own exceptions, and RewardError if its result isn't a reward.
        """
        evaluated = call.texts if loaded.group else call.texts[0]
        result = reward(evaluated, call.reference, {**process_offers, **call.offered})
        if inspect.isawaitable(result):
            result = self._wait(result)
        if loaded.group:
            return scores_of(result, loaded.owner, call.texts)
        return [score_of(result, loaded.owner, call.texts[0])]

    def close(self) -> None:
        """Close the event loop."""
        if self._loop is not None:
            self._loop.close()

    def _wait(self, result: Awaitable[object]) -> object:
        async def wait() -> object:
            return await result

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(wait())
