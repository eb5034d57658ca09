"""Ranks that share a micro-batch: cp splits the slots of a row, and tp the trained tokens.

The rules of this part:

* cp: outside of attention each rank has a run of the row's slots, as long as the others'. Inside, it has all slots and
  a run of the heads: an all-to-all before, and one after (DeepSpeed Ulysses). Keys and values are repeated where there
  are fewer heads of them than ranks.
* tp: every rank has the hidden states that predict the tokens, and makes the logits of its share of them.
* Log-probabilities are put together again, so that a loss sees whole episodes. Every rank then computes the same loss
  of the same numbers, and passes on the gradient of its own tokens.
* A row that does not say how it is attended (padded, or the model's own way) is computed whole by each rank of cp.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.distributed as dist
from torch.distributed._functional_collectives import all_to_all_single

from rlx.policy.packing.batch import Causal, Layout, MicroBatch, TokenOutputs

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.device_mesh import DeviceMesh


class RowSharding(Protocol):
    """What a rank computes of a micro-batch."""

    def filled(self, micro: MicroBatch) -> MicroBatch:
        """In rows that the ranks can share: what the others take."""

    def local(self, micro: MicroBatch) -> MicroBatch:
        """The slots of this rank, and its share of the trained tokens."""

    def whole(self, outputs: TokenOutputs, micro: MicroBatch) -> TokenOutputs:
        """The outputs of all trained tokens of `micro`, from those of `local(micro)`."""


class Unsharded:
    """A rank that computes all of it."""

    def filled(self, micro: MicroBatch) -> MicroBatch:
        return micro

    def local(self, micro: MicroBatch) -> MicroBatch:
        return micro

    def whole(self, outputs: TokenOutputs, micro: MicroBatch) -> TokenOutputs:  # noqa: ARG002 - the protocol's
        return outputs


def context_of(cp: DeviceMesh, tp: DeviceMesh) -> RowSharding:
    """The context of a rank in these dimensions of the mesh."""
    return Sharded(cp, tp) if cp.size() * tp.size() > 1 else Unsharded()


@dataclass(frozen=True)
class Sharded:
    """One of several ranks that share a row."""

    cp: DeviceMesh
    tp: DeviceMesh

    def filled(self, micro: MicroBatch) -> MicroBatch:
        ranks = self.cp.size() * self.tp.size()
        return micro.filled(-(-micro.tokens.shape[1] // ranks) * ranks)

    def local(self, micro: MicroBatch) -> MicroBatch:
        own = self._own(micro)
        if micro.layout is None:
            return replace(micro, slots=micro.slots[own], targets=micro.targets[own])
        width = self._width(micro)
        start = self.cp.get_local_rank() * width
        return replace(
            micro,
            tokens=micro.tokens[:, start : start + width],
            positions=micro.positions[:, start : start + width],
            layout=micro.layout if self.cp.size() == 1 else SplitLayout(micro.layout, self.cp),
            slots=micro.slots[own] - start,
            targets=micro.targets[own],
        )

    def whole(self, outputs: TokenOutputs, micro: MicroBatch) -> TokenOutputs:
        own, groups = self._own(micro), [self.cp.get_group(), self.tp.get_group()]
        return TokenOutputs(*(_Whole.apply(output, own, groups) for output in outputs))  # type: ignore[no-untyped-call]

    def _own(self, micro: MicroBatch) -> Tensor:
        """[T] bool: the trained tokens of this rank. Of those that its slots predict, ranks of tp have equal shares."""
        rank, ranks = self.tp.get_local_rank(), self.tp.size()
        if micro.layout is None:
            known = torch.ones_like(micro.slots, dtype=torch.bool)
            rank, ranks = self.cp.get_local_rank() * ranks + rank, self.cp.size() * ranks
        else:
            known = micro.slots.div(self._width(micro), rounding_mode="floor") == self.cp.get_local_rank()
        place = known.cumsum(0) - 1
        return known & (place * ranks // known.sum().clamp(min=1) == rank)

    def _width(self, micro: MicroBatch) -> int:
        """Slots of a rank of cp."""
        return micro.tokens.shape[1] // self.cp.size()


@dataclass(frozen=True)
class SplitLayout:
    """The layout of a row whose slots lie on several ranks, as many on each."""

    row: Layout
    cp: DeviceMesh

    def to(self, device: torch.device | str) -> SplitLayout:
        return replace(self, row=self.row.to(device))

    def filled(self, slots: int) -> SplitLayout:
        return replace(self, row=self.row.filled(slots))

    def attend(self, causal: Causal, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        heads = (query, *(_repeated(tensor, self.cp.size()) for tensor in (key, value)))
        return self._own_slots(self.row.attend(causal, *map(self._all_slots, heads)))

    def _all_slots(self, local: Tensor) -> Tensor:
        """[1, heads, own slots, D] -> [1, own heads, all slots, D]."""
        _, heads, slots, size = local.shape
        parts = local.reshape(self.cp.size(), heads // self.cp.size(), slots, size)
        return _exchange(parts, self.cp.get_group()).transpose(0, 1).flatten(1, 2).unsqueeze(0)

    def _own_slots(self, rows: Tensor) -> Tensor:
        """The way back."""
        _, heads, slots, size = rows.shape
        parts = rows.reshape(heads, self.cp.size(), slots // self.cp.size(), size).transpose(0, 1)
        return _exchange(parts, self.cp.get_group()).flatten(0, 1).unsqueeze(0)


def _repeated(heads: Tensor, ranks: int) -> Tensor:
    return heads.repeat_interleave(ranks // math.gcd(heads.shape[1], ranks), dim=1)


def _exchange(parts: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Part i of rank j becomes part j of rank i, and its gradient goes back."""
    exchanged: Tensor = all_to_all_single(parts.contiguous(), None, None, group)
    return exchanged


class _Whole(torch.autograd.Function):
    """[own] of each rank -> [T] on every rank; the gradient of a rank is that of its own."""

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
