"""GRPO: advantages from the group, a clipped surrogate, token-level mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from rlx.algorithms.base import StepTotals, TokenBatch
from rlx.algorithms.losses import Scale, clipped_surrogate, group_advantages, k3, token_mean, truncated_importance
from rlx.episodes import Episode

if TYPE_CHECKING:
    from torch import Tensor

Ratio = Literal["policy", "sampler"]


class GRPO:
    """Group Relative Policy Optimization (DeepSeekMath, arXiv 2402.03300), token-level as in DAPO (arXiv 2503.14476).

    With lp, smp, ref the log-probabilities of the policy, the sampler and the reference, N the tokens of the step::

        A    = (R - mean_group) / (std_group + 1e-4)        scale_rewards "none": R - mean_group
        old  = stop_gradient(lp)                            ratio "sampler": smp
        r    = exp(lp - old)
        loss = 1/N sum_t  rho_t * -min(r_t A, clip(r_t, 1 - clip_low, 1 + clip_high) A) + kl_coef * k3(lp_t, ref_t)
        rho  = min(exp(old - smp), importance_cap)          1 if importance_cap is 0 or ratio is "sampler"

    There is one update for each batch. With ratio "policy" r is therefore 1, and rho alone corrects for the difference
    from the sampler; with ratio "sampler" r carries that difference, and the clip bounds it. kl_coef > 0 keeps a frozen
    copy of the first weights as reference.
    """

    rollouts: ClassVar[bool] = True

    def __init__(
        self,
        *,
        scale_rewards: Scale = "group",
        clip_low: float = 0.2,
        clip_high: float = 0.2,
        importance_cap: float = 2.0,
        kl_coef: float = 0.0,
        ratio: Ratio = "policy",
    ) -> None:
        _one_of("scale_rewards", scale_rewards, ("group", "none"))
        _one_of("ratio", ratio, ("policy", "sampler"))
        self.scale_rewards = scale_rewards
        self.ratio = ratio
        self.clip_low = _number("clip_low", clip_low, low=0.0, high=1.0)
        self.clip_high = _number("clip_high", clip_high, low=0.0, high=1e6)
        self.importance_cap = _number("importance_cap", importance_cap, low=0.0, high=1e6)
        self.kl_coef = _number("kl_coef", kl_coef, low=0.0, high=1e3)

    @property
    def needs_reference(self) -> bool:
        return self.kl_coef > 0

    def advantages(self, groups: Sequence[Sequence[Episode]]) -> list[list[float]]:
        return [
            group_advantages([episode.total_reward for episode in group], scale=self.scale_rewards) for group in groups
        ]

    def loss(self, batch: TokenBatch, totals: StepTotals) -> tuple[Tensor, dict[str, Tensor]]:
        old = batch.logprobs.detach() if self.ratio == "policy" else batch.sampler_logprobs
        per_token, low, high = clipped_surrogate(
            batch.logprobs, old, batch.advantages, clip_low=self.clip_low, clip_high=self.clip_high
        )
        metrics = {"ratio/clip_low": low.sum(), "ratio/clip_high": high.sum(), "entropy": batch.entropy.sum()}
        if self.ratio == "policy" and self.importance_cap > 0:
            weights, capped = truncated_importance(old, batch.sampler_logprobs, cap=self.importance_cap)
            per_token = per_token * weights
            metrics["ratio/tis_clipped"] = capped.sum()
        if self.needs_reference:
            assert batch.reference_logprobs is not None
            divergence = k3(batch.logprobs, batch.reference_logprobs)
            per_token = per_token + self.kl_coef * divergence
            metrics["kl/reference"] = divergence.detach().sum()
        return token_mean(per_token, totals), metrics


# A ValueError of the constructor becomes an error of the config: it names the option and its valid values.


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")


def _number(name: str, value: object, *, low: float, high: float = math.inf) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {value!r}")
    if not low <= value <= high:
        upper = f" and <= {high:g}" * (high < math.inf)
        raise ValueError(f"{name} must be >= {low:g}{upper}, not {value!r}")
    return float(value)
