"""Building blocks of algorithms, to recombine in your own.

Shapes: T trained tokens of a micro-batch; [] a scalar. Tensors are float32, log-probabilities are natural logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rlx.algorithms.base import StepTotals

if TYPE_CHECKING:
    from torch import Tensor

Scale = Literal["group", "none"]

# Advantages: rewards of a group -> one advantage for each of its episodes.


def group_advantages(rewards: Sequence[float | None], *, scale: Scale = "group", eps: float = 1e-4) -> list[float]:
    """Return A_i = (R_i - mean) / (std + eps), or R_i - mean if `scale` is "none"; std with n - 1 in the denominator.

    GRPO, DeepSeekMath (arXiv 2402.03300) eq. 3; "none" is Dr. GRPO (arXiv 2503.20783). An episode with the reward
    None counts neither in the mean nor in the std, and its advantage is 0. A group with a single reward has no
    baseline: its advantage is 0.
    """
    scored = [reward for reward in rewards if reward is not None]
    if len(scored) < 2:
        return [0.0] * len(rewards)
    mean = math.fsum(scored) / len(scored)
    std = math.sqrt(math.fsum((reward - mean) ** 2 for reward in scored) / (len(scored) - 1))
    divisor = std + eps if scale == "group" else 1.0
    return [0.0 if reward is None else (reward - mean) / divisor for reward in rewards]


# Objectives: log-probabilities and advantages -> a loss for each token.


def clipped_surrogate(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, *, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) with r = exp(logprobs - old_logprobs), and which tokens
    were clipped at the lower and at the upper bound.

    logprobs, old_logprobs, advantages: [T]. Returns three [T]; the second and third are 1 for tokens whose ratio is
    clipped at the lower bound (A < 0) and at the upper bound (A > 0), else 0.

    PPO (arXiv 1707.06347) eq. 7, with separate bounds as in DAPO (arXiv 2503.14476) eq. 8.
    """
    ratio = (logprobs - old_logprobs).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    loss = -(ratio * advantages).minimum(clipped * advantages)
    low = (ratio < 1 - clip_low) & (advantages < 0)
    high = (ratio > 1 + clip_high) & (advantages > 0)
    return loss, low.to(loss.dtype), high.to(loss.dtype)


def negative_log_likelihood(logprobs: Tensor) -> Tensor:
    """Return -logprobs, [T] -> [T]: the objective of supervised fine-tuning."""
    return -logprobs


# Corrections and penalties: the policy against the sampler, and against a reference.


def truncated_importance(old_logprobs: Tensor, sampler_logprobs: Tensor, *, cap: float) -> tuple[Tensor, Tensor]:
    """Return min(exp(old - sampler), cap) for each token, without gradient, and 1 for tokens at the cap, else 0.

    old_logprobs, sampler_logprobs: [T]. Returns two [T].

    Corrects for the engine's numerics and for weights that were older than the policy's: Yao et al., "Your efficient RL
    framework secretly brings you off-policy RL training" (2025), token level.
    """
    weights = (old_logprobs - sampler_logprobs).detach().exp()
    return weights.clamp(max=cap), (weights > cap).to(weights.dtype)


def k3(logprobs: Tensor, other_logprobs: Tensor) -> Tensor:
    """Return exp(d) - d - 1 with d = other - logprobs, for each token; [T], [T] -> [T].

    Unbiased estimate of KL(policy || other) from the policy's own tokens, never negative: Schulman, "Approximating KL
    divergence" (2020).
    """
    difference = other_logprobs - logprobs
    return difference.exp() - difference - 1


# Aggregation: per-token losses -> one scalar. Its divisor counts the whole step, so that the shares of micro-batches
# and ranks add up, and the gradient does not depend on how the step was split.


def token_mean(per_token: Tensor, totals: StepTotals) -> Tensor:
    """Return the sum over this micro-batch's tokens, divided by all tokens of the step; [T] -> [].

    Every token of the step weighs the same, as in DAPO (arXiv 2503.14476) section 3.3.
    """
    return per_token.sum() / max(totals.tokens, 1)
