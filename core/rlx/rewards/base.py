"""The contract of rewards.

A reward is a function, or a class whose instances are called:

    def judge(to_be_evaluated: str, reference: Any = None, *, strict: bool = False, **kwargs: Any) -> float: ...

Rules:

* It gets the completion's text, the row's reference answer, and those of OFFERED that its signature accepts.
* Its other named parameters are its options: the config's `args`. A class gets them in its constructor.
* It returns a number, or a number and a dict of metrics, or an awaitable of one of these. NaN, infinities and
  everything else are errors with the reward's name and the completion: never a 0.
* A group reward (marked with `@rlx.group_reward`, or `group = true` in the config) judges all completions of a prompt
  together: it gets the list of texts, `token_ids` and `finish_reason` as lists, and returns a list with one number for
  each completion (None: not scored), or that and a list of dicts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

OFFERED = ("prompt", "token_ids", "finish_reason", "tokenizer", "config", "example", "data_packer")
"""Keyword arguments that rlx passes to a reward that accepts them.

prompt: the prompt as text. token_ids: the completion's tokens. finish_reason: `stop` or `length`. example: the
dataset's item. tokenizer, config, data_packer: the run's. If the signature names `tokenizer` or `data_packer`, it is
loaded before the first call; if only `**kwargs` accepts it, it loads on first use, within that call's timeout.
"""

AnyReward = TypeVar("AnyReward", bound=Callable[..., object])


def group_reward(reward: AnyReward) -> AnyReward:
    """Mark a function or class as a reward that judges all completions of a prompt together, in one call.

    It is called with a list of texts and returns a list with one finite number (or None: not scored) for each, or a
    tuple of that and a list of dicts of metrics. Anything else is a RewardError.
    """
    reward.group_reward = True  # type: ignore[attr-defined]
    return reward
