"""Per-token losses -> one scalar.

The rule of this part: what a micro-batch gives is its share of the step's loss. Shares add up over micro-batches and
ranks, because the divisor counts the whole step; so the gradient does not depend on how the step was cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlx.api.algorithm import StepTotals

if TYPE_CHECKING:
    from torch import Tensor


def token_mean(per_token: Tensor, totals: StepTotals) -> Tensor:
    """Sum / tokens of the step: every token weighs the same, as in DAPO (arXiv 2503.14476) section 3.3."""
    return per_token.sum() / max(totals.tokens, 1)
