"""The contract of algorithms: how rewards become a gradient, in three separate pieces.

An algorithm plugin is a class (entry-point group `rlx.algorithms`) whose constructor takes its options as keyword
arguments; the config's `args` are checked against that signature. It recombines:

* an advantage estimator: rewards of groups -> one value per token (constant within an episode for GRPO);
* an objective: per-token loss from log-probabilities and advantages;
* an aggregation: per-token losses -> one scalar whose gradient does not depend on ranks or micro-batches.

Shapes: T trained tokens of a micro-batch, that is, tokens in its loss mask; [] a scalar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from rlx.episodes import Episode


@dataclass(frozen=True)
class TokenBatch:
    """The trained tokens of one micro-batch, flat. All log-probabilities are natural logarithms."""

    logprobs: Tensor
    """[T] float32: log-probability of each token under the policy, temperature applied; with gradient."""
    sampler_logprobs: Tensor
    """[T] float32: the same as the engine reported it; `logprobs.detach()` for tokens that were not sampled."""
    advantages: Tensor
    """[T] float32: the advantage of each token's episode."""
    reference_logprobs: Tensor | None
    """[T] float32: the same under the frozen reference; None unless the algorithm needs a reference."""
    entropy: Tensor
    """[T] float32: entropy of the policy's distribution at each token, in nats; without gradient."""
    episode: Tensor
    """[T] int64: the episode of the step that each token belongs to."""


@dataclass(frozen=True)
class StepTotals:
    """Counts over the whole optimizer step (all ranks and micro-batches), by which losses are normalised."""

    tokens: int
    """Tokens in the loss mask."""
    episodes: int
    """Episodes that have at least one such token."""


@runtime_checkable
class Algorithm(Protocol):
    """Turns rewards, or dataset rows, into a loss."""

    rollouts: ClassVar[bool]
    """True: learns from sampled groups. False: learns from dataset rows (SFT)."""

    @property
    def needs_reference(self) -> bool:
        """Whether a frozen copy of the first weights must score every batch."""

    def advantages(self, groups: Sequence[Sequence[Episode]]) -> list[list[float]]:
        """Return one number for each episode of each group: the advantage of all of its trained tokens.

        An episode without a reward (None) gets 0.0 and does not count in its group's baseline.
        """

    def loss(self, batch: TokenBatch, totals: StepTotals) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the micro-batch's share of the step's loss ([] float32, with gradient), and metrics as *sums over
        tokens* ([] float32 each).

        Shares add up: the sum over micro-batches and ranks is the step's loss. The trainer divides metric sums by
        `totals.tokens`.
        """
