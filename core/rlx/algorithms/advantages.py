"""Rewards of a group -> one advantage for each of its episodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

Scale = Literal["group", "none"]


def group_advantages(rewards: Sequence[float | None], *, scale: Scale = "group", eps: float = 1e-4) -> list[float]:
    """A_i = (R_i - mean) / (std + eps), or R_i - mean where `scale` is "none"; std with n - 1 in the denominator.

    GRPO, DeepSeekMath (arXiv 2402.03300) eq. 3; "none" is Dr. GRPO (arXiv 2503.20783). A reward of None is not scored:
    it counts neither in the mean nor in the std, and its advantage is 0. A group with a single scored episode has no
    baseline: 0.
    """
    scored = [reward for reward in rewards if reward is not None]
    if len(scored) < 2:
        return [0.0] * len(rewards)
    mean = math.fsum(scored) / len(scored)
    divisor = _std(scored, mean) + eps if scale == "group" else 1.0
    return [0.0 if reward is None else (reward - mean) / divisor for reward in rewards]


def _std(values: Sequence[float], mean: float) -> float:
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
