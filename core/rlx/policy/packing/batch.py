"""What one forward and backward computes on: the tokens of a micro-batch and what the loss needs to know of them.

Shapes: B x L token slots (packed: one row of real tokens; padded: B sequences of L slots), T trained tokens. A
micro-batch may have T = 0: ranks that run out of work go through the same collectives on one dummy token, and
`logprobs.sum()` of its empty output still reaches every parameter with a zero gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
import torch.nn.functional as F  # noqa: N812

from rlx.algorithms.base import StepTotals, TokenBatch

if TYPE_CHECKING:
    from torch import Tensor


class TokenOutputs(NamedTuple):
    """What the policy says of the trained tokens of a micro-batch (a NamedTuple, so that FSDP finds the tensors in it).

    logprobs: [T] float32, with gradient. entropy: [T] float32, of the distribution at each token, without gradient.
    """

    logprobs: Tensor
    entropy: Tensor


Causal = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]
"""Causal attention over a batch of sequences: query, key, value [S, heads, M, D] -> [S, heads, M, Dv]."""


class Layout(Protocol):
    """How the slots of a packed row make up sequences."""

    def attend(self, causal: Causal, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """`causal` over each sequence of the row: [1, heads, L, D] -> [1, heads, L, Dv]."""

    def to(self, device: torch.device | str) -> Layout: ...

    def filled(self, slots: int) -> Layout:
        """The same for a row with so many slots more."""


@dataclass(frozen=True)
class MicroBatch:
    """One forward and backward of one rank.

    tokens, positions: [B, L] int64. layout: how a packed row is attended; None where rows are right-padded sequences.
    slots: [T] int64, slot (row-major in [B, L]) whose hidden state predicts the trained token. targets: [T] int64.
    sampler_logprobs: [T] float32, NaN where nothing was sampled. advantages: [T] float32. episode: [T] int64, index of
    the episode (or scored sequence) in the whole step. An episode's tokens are in order and never split over
    micro-batches unless it has several trajectories.
    """

    tokens: Tensor
    positions: Tensor
    layout: Layout | None
    slots: Tensor
    targets: Tensor
    sampler_logprobs: Tensor
    advantages: Tensor
    episode: Tensor

    def to(self, device: torch.device | str) -> MicroBatch:
        moved = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value.to(device) for name, value in moved.items() if value is not None})

    def filled(self, length: int) -> MicroBatch:
        """The same in rows of `length` slots, filled up on the right."""
        before = self.tokens.shape[1]
        more = length - before
        if not more:
            return self
        return replace(
            self,
            tokens=F.pad(self.tokens, (0, more)),
            positions=F.pad(self.positions, (0, more)),
            layout=None if self.layout is None else self.layout.filled(more),
            slots=self.slots + self.slots.div(before, rounding_mode="floor") * more,
        )

    @property
    def empty(self) -> bool:
        """Whether it holds no trained token, and is only there for the collectives."""
        return self.targets.numel() == 0

    def token_batch(self, outputs: TokenOutputs, reference_logprobs: Tensor | None = None) -> TokenBatch:
        """What `Algorithm.loss` takes. A token that nobody sampled counts as sampled by the policy itself."""
        own = outputs.logprobs.detach()
        return TokenBatch(
            logprobs=outputs.logprobs,
            sampler_logprobs=torch.where(self.sampler_logprobs.isnan(), own, self.sampler_logprobs),
            advantages=self.advantages,
            reference_logprobs=reference_logprobs,
            entropy=outputs.entropy,
            episode=self.episode,
        )

    def by_episode(self, values: Tensor) -> dict[int, list[float]]:
        """`values` ([T], one for each trained token) as one list for each episode of this micro-batch."""
        lists: dict[int, list[float]] = {}
        for episode, value in zip(self.episode.tolist(), values.tolist(), strict=True):
            lists.setdefault(episode, []).append(value)
        return lists


@dataclass(frozen=True)
class StepPlan:
    """What one rank does in an optimizer step: as many micro-batches as every other rank."""

    micro: list[MicroBatch]
    totals: StepTotals
