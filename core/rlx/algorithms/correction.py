"""What sets the policy apart from who sampled, and from a reference. All tensors are [T] float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


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
