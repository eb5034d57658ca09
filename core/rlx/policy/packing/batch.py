"""The data of one forward and backward: a micro-batch, and the policy's outputs for its trained tokens.

A micro-batch may have T = 0: a rank that has run out of work goes through the same collectives with one dummy token,
and `logprobs.sum()` of its empty outputs still gives every parameter a zero gradient.

Shapes:
    B      rows: 1 if packed (real tokens only), else one row for each sequence, padded on the right
    L      positions of a row
    T      trained tokens of the micro-batch
    A      attention heads
    D, Dv  size of a head of queries and keys, and of values
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


# A NamedTuple, since FSDP looks for tensors in a forward's output, and knows tuples.
class TokenOutputs(NamedTuple):
    """The policy's outputs for the trained tokens of a micro-batch.

    logprobs: [T] float32, with gradient. entropy: [T] float32, of the distribution at each token, without gradient.
    """

    logprobs: Tensor
    entropy: Tensor


CausalAttention = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]
"""Causal attention within each sequence of a batch: query, key, value [S, A, M, D] -> [S, A, M, Dv]."""


class RowLayout(Protocol):
    """The positions of each sequence in a packed row."""

    def attend(self, causal: CausalAttention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Apply `causal` to each sequence of the row: [1, A, L, D] -> [1, A, L, Dv]."""

    def to(self, device: torch.device | str) -> RowLayout: ...

    def padded_by(self, positions: int) -> RowLayout:
        """Return the layout of the row with that many more positions on the right."""


@dataclass(frozen=True)
class MicroBatch:
    """The input of one forward and backward of one rank.

    tokens: [B, L] int64. position_ids: [B, L] int64, from 0 in each sequence. layout: of a packed row; None if rows are
    sequences that are padded on the right. logit_positions: [T] int64, position (row-major in [B, L]) whose hidden
    state predicts the trained token. targets: [T] int64. sampler_logprobs: [T] float32, NaN for tokens that weren't
    sampled. advantages: [T] float32. episode: [T] int64, index of the episode (or scored sequence) in the whole step.

    An episode's tokens are in order, and only in one micro-batch unless it has several trajectories.
    """

    tokens: Tensor
    position_ids: Tensor
    layout: RowLayout | None
    logit_positions: Tensor
    targets: Tensor
    sampler_logprobs: Tensor
    advantages: Tensor
    episode: Tensor

    def to(self, device: torch.device | str) -> MicroBatch:
        moved = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value.to(device) for name, value in moved.items() if value is not None})

    def padded_to(self, length: int) -> MicroBatch:
        """Return the micro-batch with its rows padded on the right to `length` positions."""
        before = self.tokens.shape[1]
        added = length - before
        if not added:
            return self
        rows = self.logit_positions.div(before, rounding_mode="floor")
        return replace(
            self,
            tokens=F.pad(self.tokens, (0, added)),
            position_ids=F.pad(self.position_ids, (0, added)),
            layout=None if self.layout is None else self.layout.padded_by(added),
            logit_positions=self.logit_positions + rows * added,
        )

    def token_batch(self, outputs: TokenOutputs, reference_logprobs: Tensor | None = None) -> TokenBatch:
        """Return the input of `Algorithm.loss`. A token that wasn't sampled counts as sampled by the policy itself."""
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
        """Split `values` ([T], one for each trained token) into a list for each episode of this micro-batch."""
        lists: dict[int, list[float]] = {}
        for episode, value in zip(self.episode.tolist(), values.tolist(), strict=True):
            lists.setdefault(episode, []).append(value)
        return lists


@dataclass(frozen=True)
class StepPlan:
    """The micro-batches of one rank in an optimizer step, as many as on every other rank; and the step's totals."""

    micro_batches: list[MicroBatch]
    totals: StepTotals
