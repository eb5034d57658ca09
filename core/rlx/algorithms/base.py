"""What an algorithm is: how rewards become a gradient, in three separate pieces.

An algorithm plugin is a class (entry-point group `rlx.algorithms`) whose constructor takes its options as keyword
arguments; the config's `args` are checked against that signature. It recombines:

* an advantage estimator: rewards of groups -> one value per token (constant within an episode for GRPO);
* an objective: per-token loss from log-probabilities and advantages;
* an aggregation: per-token losses -> one scalar whose gradient does not depend on ranks or micro-batches.
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
    """The trained tokens of one micro-batch, flat: T = number of tokens in the loss mask. All float32 [T].

    logprobs: the policy's, with gradient, temperature applied.
    sampler_logprobs: what the engine reported for the same tokens (`logprobs.detach()` where nothing was sampled).
    advantages: one per token.
    reference_logprobs: of the frozen reference; None unless the algorithm asks for a reference.
    entropy: of the policy's distribution at each token, no gradient.
    episode: [T] int64, which episode of the step a token belongs to.
    """

    logprobs: Tensor
    sampler_logprobs: Tensor
    advantages: Tensor
    reference_logprobs: Tensor | None
    entropy: Tensor
    episode: Tensor


@dataclass(frozen=True)
class StepTotals:
    """Counts over the whole optimizer step (all ranks and micro-batches): what losses are normalised by."""

    tokens: int
    """Tokens in the loss mask."""
    episodes: int
    """Episodes that have at least one such token."""


@runtime_checkable
class Algorithm(Protocol):
    """How rewards become a gradient."""

    rollouts: ClassVar[bool]
    """True: learns from sampled groups. False: learns from dataset rows (SFT)."""

    @property
    def needs_reference(self) -> bool:
        """Whether a frozen copy of the first weights must score every batch."""

    def advantages(self, groups: Sequence[Sequence[Episode]]) -> list[list[float]]:
        """One number for each episode of each group (it holds for all trained tokens of the episode).

        An episode without a reward (None) gets 0.0 and does not count in its group's baseline.
        """

    def loss(self, batch: TokenBatch, totals: StepTotals) -> tuple[Tensor, dict[str, Tensor]]:
        """The micro-batch's share of the step's loss, and metrics as *sums over tokens* ([] float32 each).

        Shares add up: the sum over micro-batches and ranks is the step's loss. The trainer divides metric sums by
        `totals.tokens`.
        """
