"""Built-in rewards, one file each; a name is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_WHERE = {
    "exact_match_reward_fn": "rlx_rewards.exact_match",
    "gsm8k_reward_fn": "rlx_rewards.gsm8k",
    "math_reward_fn": "rlx_rewards.math",
}

__all__ = ["exact_match_reward_fn", "gsm8k_reward_fn", "math_reward_fn"]

if TYPE_CHECKING:
    from rlx_rewards.exact_match import exact_match_reward_fn as exact_match_reward_fn
    from rlx_rewards.gsm8k import gsm8k_reward_fn as gsm8k_reward_fn
    from rlx_rewards.math import math_reward_fn as math_reward_fn


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'rlx_rewards' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
