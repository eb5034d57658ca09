"""SFT: supervised fine-tuning, token-level mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from rlx.algorithms.base import StepTotals, TokenBatch
from rlx.algorithms.losses import negative_log_likelihood, token_mean
from rlx.episodes import Episode

if TYPE_CHECKING:
    from torch import Tensor


class SFT:
    """loss = 1/N sum_t -log p(token_t): the mean over all N trained tokens of the step."""

    rollouts: ClassVar[bool] = False

    @property
    def needs_reference(self) -> bool:
        return False

    def advantages(self, groups: Sequence[Sequence[Episode]]) -> list[list[float]]:
        """Return zeros, which the loss does not use: rows have no rewards."""
        return [[0.0] * len(group) for group in groups]

    def loss(self, batch: TokenBatch, totals: StepTotals) -> tuple[Tensor, dict[str, Tensor]]:
        per_token = negative_log_likelihood(batch.logprobs)
        return token_mean(per_token, totals), {"entropy": batch.entropy.sum()}
