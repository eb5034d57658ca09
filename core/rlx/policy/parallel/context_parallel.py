"""Ranks that share a micro-batch: cp splits the positions of a row, and tp the trained tokens.

Rules:

* cp: outside of attention each rank has a run of the row's positions, all runs equally long. In attention it has all
  positions and a run of the heads: one all-to-all before, and one after (DeepSpeed Ulysses, arXiv 2309.14509). Keys and
  values are repeated if they have fewer heads than there are ranks.
* tp: every rank has the hidden states that predict the tokens, and computes the logits of its share of them.
* Log-probabilities are gathered, so that a loss sees whole episodes. Every rank then computes the same loss from the
  same numbers, and propagates the gradient of its own tokens.
* A row without a layout (padded, or with the model's own attention) is computed whole by each cp rank.

Shapes: B rows, L positions of a row, T trained tokens, A attention heads, D size of a head, R cp ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.distributed as dist

from rlx.policy.packing.batch import CausalAttention, MicroBatch, RowLayout, TokenOutputs
from rlx.torch_private import all_to_all_single

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.device_mesh import DeviceMesh


class RowSharding(Protocol):
    """How the ranks that share a micro-batch divide it."""

    def pad(self, micro: MicroBatch) -> MicroBatch:
        """Pad the rows to a length that divides evenly among the ranks."""

    def shard(self, micro: MicroBatch) -> MicroBatch:
        """Return this rank's positions, and its share of the trained tokens."""

    def gather(self, outputs: TokenOutputs, micro: MicroBatch) -> TokenOutputs:
        """Return the outputs of all trained tokens of `micro`, from every rank's outputs of `shard(micro)`."""


class Unsharded:
    """A rank that computes whole micro-batches."""

    def pad(self, micro: MicroBatch) -> MicroBatch:
        return micro

    def shard(self, micro: MicroBatch) -> MicroBatch:
        return micro

    def gather(self, outputs: TokenOutputs, micro: MicroBatch) -> TokenOutputs:  # noqa: ARG002 - the protocol's
        return outputs


def row_sharding(cp: DeviceMesh, tp: DeviceMesh) -> RowSharding:
    """Return how this rank shares rows with the other ranks of these dimensions."""
    return Sharded(cp, tp) if cp.size() * tp.size() > 1 else Unsharded()


@dataclass(frozen=True)
class Sharded:
    """One of several ranks that share each micro-batch."""

    cp: DeviceMesh
    tp: DeviceMesh

    def pad(self, micro: MicroBatch) -> MicroBatch:
        ranks = self.cp.size() * self.tp.size()
        return micro.padded_to(-(-micro.tokens.shape[1] // ranks) * ranks)

    def shard(self, micro: MicroBatch) -> MicroBatch:
        own = self._own_tokens(micro)
        if micro.layout is None:
            return replace(micro, logit_positions=micro.logit_positions[own], targets=micro.targets[own])
        length = micro.tokens.shape[1] // self.cp.size()
        start = self.cp.get_local_rank() * length
        return replace(
            micro,
            tokens=micro.tokens[:, start : start + length],
            position_ids=micro.position_ids[:, start : start + length],
            layout=micro.layout if self.cp.size() == 1 else UlyssesLayout(micro.layout, self.cp),
            logit_positions=micro.logit_positions[own] - start,
            targets=micro.targets[own],
        )

    def gather(self, outputs: TokenOutputs, micro: MicroBatch) -> TokenOutputs:
        own, groups = self._own_tokens(micro), [self.cp.get_group(), self.tp.get_group()]
        return TokenOutputs(*(_Gather.apply(output, own, groups) for output in outputs))  # type: ignore[no-untyped-call]

    def _own_tokens(self, micro: MicroBatch) -> Tensor:
        """Return the mask ([T] bool) of the trained tokens whose logits this rank computes.

        They are predicted at this rank's positions; tp ranks, which have the same positions, get equal shares of them.
        """
        rank, ranks = self.tp.get_local_rank(), self.tp.size()
        if micro.layout is None:
            predicted = torch.ones_like(micro.logit_positions, dtype=torch.bool)
            rank, ranks = self.cp.get_local_rank() * ranks + rank, self.cp.size() * ranks
        else:
            length = micro.tokens.shape[1] // self.cp.size()
            predicted = micro.logit_positions.div(length, rounding_mode="floor") == self.cp.get_local_rank()
        index = predicted.cumsum(0) - 1
        return predicted & (index * ranks // predicted.sum().clamp(min=1) == rank)


@dataclass(frozen=True)
class UlyssesLayout:
    """The layout of a row whose positions are split evenly over cp ranks."""

    row: RowLayout
    cp: DeviceMesh

    def to(self, device: torch.device | str) -> UlyssesLayout:
        return replace(self, row=self.row.to(device))

    def padded_by(self, positions: int) -> UlyssesLayout:
        return replace(self, row=self.row.padded_by(positions))

    def attend(self, causal: CausalAttention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        # Repeat key-value heads until the number of ranks divides their number.
        repeats = self.cp.size() // math.gcd(key.shape[1], self.cp.size())
        repeated = (tensor.repeat_interleave(repeats, dim=1) for tensor in (key, value))
        return self._split_positions(self.row.attend(causal, *map(self._split_heads, (query, *repeated))))

    def _split_heads(self, local: Tensor) -> Tensor:
        """All-to-all from split positions to split heads: [1, A, L / R, D] -> [1, A / R, L, D]."""
        _, heads, positions, size = local.shape
        parts = local.reshape(self.cp.size(), heads // self.cp.size(), positions, size)
        return _exchange(parts, self.cp.get_group()).transpose(0, 1).flatten(1, 2).unsqueeze(0)

    def _split_positions(self, row: Tensor) -> Tensor:
        """All-to-all from split heads to split positions: [1, A / R, L, D] -> [1, A, L / R, D]."""
        _, heads, positions, size = row.shape
        parts = row.reshape(heads, self.cp.size(), positions // self.cp.size(), size).transpose(0, 1)
        return _exchange(parts, self.cp.get_group()).flatten(0, 1).unsqueeze(0)


def _exchange(parts: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Exchange parts, so that part i of rank j becomes part j of rank i. Gradients are exchanged in the same way."""
    exchanged: Tensor = all_to_all_single(parts.contiguous(), None, None, group)
    return exchanged


class _Gather(torch.autograd.Function):
    """[own tokens] of each rank -> [T] on every rank; a rank gets the gradient of its own tokens only."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, own: Tensor, groups: Sequence[dist.ProcessGroup]) -> Tensor:
        ctx.save_for_backward(own)
        whole = torch.zeros(own.shape, dtype=local.dtype, device=local.device)
        whole[own] = local
        for group in groups:
            dist.all_reduce(whole, group=group)
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (own,) = ctx.saved_tensors
        return gradient[own], None, None
