"""Attention over a packed row: sequences of different lengths, and prompts that several of them share.

The rules of this part:

* Everything but attention works on the flat row [1, L], which holds each token once and no padding. Attention alone
  gathers the row into batches of sequences, runs causal `scaled_dot_product_attention`, and takes each slot's output
  back.
* A shared prompt is gathered into each of its sequences. Its output is taken from the first; gradients of its keys and
  values add up over all, in float32.
* It is plain causal attention and nothing else: a model that asks for a window, a soft cap, sinks or a bias gets an
  error here, and is not sent here in the first place (`rlx.policy.model.self_check`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812

from rlx.models.base_model import Attention, causal_attention
from rlx.policy.packing.batch import Causal, Layout

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = "rlx_varlen"
_BUCKET_FILL = 0.75
"""A bucket's shortest sequence has at least this share of the longest's tokens."""
_UNSUPPORTED = ("sliding_window", "softcap", "s_aux", "position_bias")


@dataclass(frozen=True)
class VarlenLayout:
    """Which slots of a packed row make up which sequences.

    Sequences stand in buckets of S by M cells: S sequences of at most M tokens, in order of position; shorter ones are
    filled up on the right with any slot (causal attention never looks there). shapes: S and M of each bucket. cells:
    [N] int64, the slot that each cell holds, buckets laid end to end. source: [L] int64, for each slot of the row, the
    first cell that holds it. again: [R] int64, the further cells that hold a slot.
    """

    shapes: tuple[tuple[int, int], ...]
    cells: Tensor
    source: Tensor
    again: Tensor
    empty: int = 0
    """Slots after the L, which nobody attends."""

    def to(self, device: torch.device | str) -> VarlenLayout:
        cells, source, again = (tensor.to(device) for tensor in (self.cells, self.source, self.again))
        return replace(self, cells=cells, source=source, again=again)

    def filled(self, slots: int) -> VarlenLayout:
        return replace(self, empty=self.empty + slots)

    def attend(self, causal: Causal, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        sizes = [rows * length for rows, length in self.shapes]
        buckets = (torch.split(self._gathered(heads), sizes) for heads in (query, key, value))
        outputs = []
        for shape, *parts in zip(self.shapes, *buckets, strict=True):
            batch = (part.view(*shape, *part.shape[1:]).transpose(1, 2) for part in parts)
            outputs.append(causal(*batch).transpose(1, 2).flatten(0, 1))
        taken: Tensor = _Take.apply(torch.cat(outputs), self.source)  # type: ignore[no-untyped-call]
        return self.with_empty(taken).unsqueeze(0).transpose(1, 2)

    def with_empty(self, slots: Tensor) -> Tensor:
        """Values of the L slots, and zeros for those after them."""
        return torch.cat([slots, slots.new_zeros(self.empty, *slots.shape[1:])]) if self.empty else slots

    def _gathered(self, heads: Tensor) -> Tensor:
        """[1, heads, L, D] -> [N, heads, D]."""
        cells: Tensor = _Gather.apply(heads.transpose(1, 2).squeeze(0), self)  # type: ignore[no-untyped-call]
        return cells


def register() -> None:
    """Make `rlx_varlen` known to transformers. It has no entry among the mask functions, so no mask is built for it."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, varlen_attention)


def varlen_layout(paths: Sequence[Sequence[int]]) -> VarlenLayout:
    """The layout of a row in which sequence i lies in the slots `paths[i]`, in order; together they cover the row."""
    buckets: list[list[Sequence[int]]] = []
    for path in sorted(paths, key=len, reverse=True):
        if not buckets or len(path) < _BUCKET_FILL * len(buckets[-1][0]):
            buckets.append([])
        buckets[-1].append(path)
    cells: list[int] = []
    source: dict[int, int] = {}
    again: list[int] = []
    for bucket in buckets:
        for path in bucket:
            for cell, slot in enumerate(path, len(cells)):
                if source.setdefault(slot, cell) != cell:
                    again.append(cell)
            cells += [*path, *([0] * (len(bucket[0]) - len(path)))]
    return VarlenLayout(
        tuple((len(bucket), len(bucket[0])) for bucket in buckets),
        torch.tensor(cells),
        torch.tensor([source[slot] for slot in range(len(source))]),
        torch.tensor(again, dtype=torch.int64),
    )


def varlen_attention(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    rlx_layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """An attention function of transformers: query, key, value [1, heads, L, D] -> [1, L, heads, D].

    Without a layout, the rows of [B, heads, L, D] are right-padded sequences: causal attention needs no mask for them.
    """
    for name in _UNSUPPORTED:
        if kwargs.get(name) is not None:
            raise ValueError(f"{NAME} attention cannot do {name}={kwargs[name]!r}; set policy.packing = false")
    if attention_mask is not None:
        raise ValueError(f"{NAME} attention takes no mask")

    def causal(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            dropout_p=dropout,
            is_causal=True,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )

    attended = causal(query, key, value) if rlx_layout is None else rlx_layout.attend(causal, query, key, value)
    return attended.transpose(1, 2), None


def over(layout: Layout) -> Attention:
    """What an `rlx.BaseModel` is handed for a packed row."""

    def attention(query: Tensor, key: Tensor, value: Tensor, *, scale: float | None = None) -> Tensor:
        return layout.attend(partial(causal_attention, scale=scale), query, key, value)

    return attention


class _Gather(torch.autograd.Function):
    """A row's slots in the cells that hold them. Gradients of a slot that several hold are summed in float32: a prompt
    is there once for each completion. Cells that fill sequences up have none.
    """

    @staticmethod
    def forward(ctx: Any, row: Tensor, layout: VarlenLayout) -> Tensor:
        ctx.layout = layout
        return row.index_select(0, layout.cells)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        layout: VarlenLayout = ctx.layout
        total = gradient.index_select(0, layout.source)
        if layout.again.numel():
            total = total.to(torch.promote_types(gradient.dtype, torch.float32))
            further = gradient.index_select(0, layout.again).to(total.dtype)
            total.index_add_(0, layout.cells.index_select(0, layout.again), further)
        return layout.with_empty(total.to(gradient.dtype)), None


class _Take(torch.autograd.Function):
    """`cells.index_select(0, source)`, of cells of which none is taken twice: its gradient is moved, not added up."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, source: Tensor) -> Tensor:
        ctx.save_for_backward(source)
        ctx.cells = cells.shape[0]
        return cells.index_select(0, source)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (source,) = ctx.saved_tensors
        whole = gradient.new_zeros(ctx.cells, *gradient.shape[1:])
        return whole.index_copy_(0, source, gradient), None
