"""Context parallelism: ranks that split the tokens of a packed row between them.

The rules of this part:

* Outside of attention each rank has a run of the row's slots, all of the same length (the last is filled up with any
  token). Inside, it has all slots and a run of the heads: an all-to-all before, and one after (DeepSpeed Ulysses).
* Keys and values are repeated where there are fewer heads of them than ranks.
* Log-probabilities are put together again, so that a loss sees whole episodes. Every rank then computes the same loss
  of the same numbers, and passes on the gradient of its own slots.
* A row that does not say how it is attended (the model's own way, of `rlx.policy.support`) is computed whole by each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch.distributed._functional_collectives import all_to_all_single

from rlx.policy.batch import Causal, Layout, MicroBatch, TokenOutputs

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.device_mesh import DeviceMesh


class Context(Protocol):
    """What a rank computes of a micro-batch."""

    def local(self, micro: MicroBatch) -> MicroBatch:
        """The slots of this rank, and the trained tokens that they predict."""

    def whole(self, outputs: TokenOutputs, micro: MicroBatch) -> TokenOutputs:
        """The outputs of all trained tokens of `micro`, from those of `local(micro)`."""


class Alone:
    """A rank that computes all of it."""

    def local(self, micro: MicroBatch) -> MicroBatch:
        return micro

    def whole(self, outputs: TokenOutputs, micro: MicroBatch) -> TokenOutputs:  # noqa: ARG002 - the protocol's
        return outputs


def context_of(mesh: DeviceMesh) -> Context:
    """The context of a rank in the `cp` dimension of the mesh."""
    return Shared(mesh.get_group(), mesh.get_local_rank(), mesh.size()) if mesh.size() > 1 else Alone()


@dataclass(frozen=True)
class Shared:
    """One of several ranks that share a row."""

    group: dist.ProcessGroup
    rank: int
    size: int

    def local(self, micro: MicroBatch) -> MicroBatch:
        if micro.layout is None:
            return micro
        length = micro.tokens.shape[1]
        width = -(-length // self.size)
        run = slice(self.rank * width, (self.rank + 1) * width)
        filled = width * self.size - length
        own = self._own(micro)
        return replace(
            micro,
            tokens=F.pad(micro.tokens, (0, filled))[:, run],
            positions=F.pad(micro.positions, (0, filled))[:, run],
            layout=SplitLayout(micro.layout, self, length),
            slots=micro.slots[own] - run.start,
            targets=micro.targets[own],
        )

    def whole(self, outputs: TokenOutputs, micro: MicroBatch) -> TokenOutputs:
        if micro.layout is None:
            return outputs
        own = self._own(micro)
        return TokenOutputs(*(_Whole.apply(output, own, self.group) for output in outputs))  # type: ignore[no-untyped-call]

    def _own(self, micro: MicroBatch) -> Tensor:
        """[T] bool: the trained tokens that this rank's slots predict."""
        width = -(-micro.tokens.shape[1] // self.size)
        return micro.slots.div(width, rounding_mode="floor") == self.rank


@dataclass(frozen=True)
class SplitLayout:
    """The layout of a row whose slots lie on several ranks."""

    row: Layout
    context: Shared
    length: int
    """Slots of the row, without those that fill it up."""

    def to(self, device: torch.device | str) -> SplitLayout:
        return replace(self, row=self.row.to(device))

    def filled(self, slots: int) -> SplitLayout:
        return replace(self, row=self.row.filled(slots), length=self.length + slots)

    def attend(self, causal: Causal, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        ranks = self.context.size
        heads = (query, *(_repeated(tensor, ranks) for tensor in (key, value)))
        rows = (self._all_slots(tensor)[:, :, : self.length] for tensor in heads)
        return self._own_slots(self.row.attend(causal, *rows))

    def _all_slots(self, local: Tensor) -> Tensor:
        """[1, heads, own slots, D] -> [1, own heads, all slots, D]."""
        _, heads, slots, size = local.shape
        parts = local.reshape(self.context.size, heads // self.context.size, slots, size)
        return _exchange(parts, self.context.group).transpose(0, 1).flatten(1, 2).unsqueeze(0)

    def _own_slots(self, rows: Tensor) -> Tensor:
        """The way back."""
        ranks = self.context.size
        filled = F.pad(rows.squeeze(0), (0, 0, 0, -self.length % ranks))
        heads, slots, size = filled.shape
        parts = filled.reshape(heads, ranks, slots // ranks, size).transpose(0, 1)
        return _exchange(parts, self.context.group).flatten(0, 1).unsqueeze(0)


def _repeated(heads: Tensor, ranks: int) -> Tensor:
    return heads.repeat_interleave(ranks // math.gcd(heads.shape[1], ranks), dim=1)


def _exchange(parts: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Part i of rank j becomes part j of rank i, and its gradient goes back."""
    exchanged: Tensor = all_to_all_single(parts.contiguous(), None, None, group)
    return exchanged


class _Whole(torch.autograd.Function):
    """[own] of each rank -> [T] on every rank; the gradient of a rank is that of its own."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, own: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.save_for_backward(own)
        whole = torch.zeros(own.shape, dtype=local.dtype, device=local.device)
        whole[own] = local
        dist.all_reduce(whole, group=group)
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (own,) = ctx.saved_tensors
        return gradient[own], None, None
