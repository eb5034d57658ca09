"""Per-token losses from log-probabilities and advantages. All tensors are [T] float32.

Rewards of a group -> one advantage for each of its episodes.

Per-token losses -> one scalar.

The rule of this part: what a micro-batch gives is its share of the step's loss. Shares add up over micro-batches and
ranks, because the divisor counts the whole step; so the gradient does not depend on how the step was cut.

What sets the policy apart from who sampled, and from a reference. All tensors are [T] float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rlx.algorithms.base import StepTotals

if TYPE_CHECKING:
    from torch import Tensor


from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def clipped_surrogate(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, *, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor, Tensor]:
    """-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) with r = exp(logprobs - old_logprobs), and what the clip bound.

    PPO (arXiv 1707.06347) eq. 7, with the two bounds apart as in DAPO (arXiv 2503.14476) eq. 8. The second and third
    result are 1 for tokens whose ratio is held at the lower (A < 0) and at the upper bound (A > 0), else 0.
    """
    ratio = (logprobs - old_logprobs).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    loss = -(ratio * advantages).minimum(clipped * advantages)
    low = (ratio < 1 - clip_low) & (advantages < 0)
    high = (ratio > 1 + clip_high) & (advantages > 0)
    return loss, low.to(loss.dtype), high.to(loss.dtype)


def negative_log_likelihood(logprobs: Tensor) -> Tensor:
    """-log p: supervised fine-tuning."""
    return -logprobs


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


def token_mean(per_token: Tensor, totals: StepTotals) -> Tensor:
    """Sum / tokens of the step: every token weighs the same, as in DAPO (arXiv 2503.14476) section 3.3."""
    return per_token.sum() / max(totals.tokens, 1)


def truncated_importance(old_logprobs: Tensor, sampler_logprobs: Tensor, *, cap: float) -> tuple[Tensor, Tensor]:
    """min(exp(old - sampler), cap) for each token, without gradient, and 1 where the cap bound, else 0.

    Corrects for the engine's numerics and for weights that were older than the policy's: Yao et al., "Your efficient RL
    framework secretly brings you off-policy RL training" (2025), token level.
    """
    weights = (old_logprobs - sampler_logprobs).detach().exp()
    return weights.clamp(max=cap), (weights > cap).to(weights.dtype)


def k3(logprobs: Tensor, other_logprobs: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = other - logprobs, for each token.

    Unbiased estimate of KL(policy || other) from the policy's own tokens, never negative: Schulman, "Approximating KL
    divergence" (2020).
    """
    difference = other_logprobs - logprobs
    return difference.exp() - difference - 1
