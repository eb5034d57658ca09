"""Per-token losses from log-probabilities and advantages. All tensors are [T] float32."""

from __future__ import annotations

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
