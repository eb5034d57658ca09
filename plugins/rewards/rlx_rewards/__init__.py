"""Built-in rewards: functions and classes that score completions, one file each.

Names are imported when they are first used. `answers` compares mathematics; `latex`, `patterns`, `scorer` and `tagged`
contain helpers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlx import lazy_exports

_WHERE = {
    "HttpOptions": "rlx_rewards.http",
    "HttpReward": "rlx_rewards.http",
    "OverlongOptions": "rlx_rewards.overlong",
    "OverlongReward": "rlx_rewards.overlong",
    "boxed_math_reward_fn": "rlx_rewards.boxed_math",
    "countdown_reward_fn": "rlx_rewards.countdown",
    "direct_math_reward_fn": "rlx_rewards.direct_math",
    "exact_match_reward_fn": "rlx_rewards.exact_match",
    "format_reward_fn": "rlx_rewards.format",
    "gsm8k_reward_fn": "rlx_rewards.gsm8k",
    "math_reward_fn": "rlx_rewards.math",
    "overlong_reward_fn": "rlx_rewards.overlong",
    "reasoning_gym_reward_fn": "rlx_rewards.reasoning_gym",
    "single_choice_reward_fn": "rlx_rewards.single_choice",
}

__all__ = [*_WHERE]  # noqa: PLE0604 - the keys are strings

if TYPE_CHECKING:
    from rlx_rewards.boxed_math import boxed_math_reward_fn as boxed_math_reward_fn
    from rlx_rewards.countdown import countdown_reward_fn as countdown_reward_fn
    from rlx_rewards.direct_math import direct_math_reward_fn as direct_math_reward_fn
    from rlx_rewards.exact_match import exact_match_reward_fn as exact_match_reward_fn
    from rlx_rewards.format import format_reward_fn as format_reward_fn
    from rlx_rewards.gsm8k import gsm8k_reward_fn as gsm8k_reward_fn
    from rlx_rewards.http import HttpOptions as HttpOptions
    from rlx_rewards.http import HttpReward as HttpReward
    from rlx_rewards.math import math_reward_fn as math_reward_fn
    from rlx_rewards.overlong import OverlongOptions as OverlongOptions
    from rlx_rewards.overlong import OverlongReward as OverlongReward
    from rlx_rewards.overlong import overlong_reward_fn as overlong_reward_fn
    from rlx_rewards.reasoning_gym import reasoning_gym_reward_fn as reasoning_gym_reward_fn
    from rlx_rewards.single_choice import single_choice_reward_fn as single_choice_reward_fn
else:
    __getattr__, __dir__ = lazy_exports(__name__, _WHERE)
