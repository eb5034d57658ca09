"""Attention over a packed row: sequences of different lengths, and prompts that several of them share.

Rules:

* Everything but attention works on the flat row [1, L], which holds each token once, without padding. Only attention
  gathers the row into batches of sequences, runs causal `scaled_dot_product_attention` on them, and puts the outputs
  back into a row.
* A shared prompt is gathered into each of its sequences. Its output is taken from the first of them; the gradients of
  its keys and values are summed over all, in float32.
* It is plain causal attention. A model that asks for a window, a soft cap, sinks or a bias gets an error here, and
  isn't given packed rows in the first place (`rlx.policy.model.adapters`).

Shapes:
    L      positions of the row that hold tokens
    S, M   sequences of a bucket, and cells of each of them
    N      cells of all buckets
    R      cells that repeat a position
    A      attention heads
    D, Dv  size of a head of queries and keys, and of values
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812

from rlx.models.base_model import Attention, causal_attention
from rlx.policy.packing.batch import CausalAttention, RowLayout

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = "rlx_varlen"
_BUCKET_FILL = 0.75
"""A bucket's shortest sequence has at least this share of the longest's tokens."""
_UNSUPPORTED = ("sliding_window", "softcap", "s_aux", "position_bias")


@dataclass(frozen=True)
class VarlenLayout:
    """The positions of a packed row that make up each of its sequences.

    Sequences are in buckets of S by M cells: S sequences of at most M tokens, in order; shorter ones are padded on the
    right with any position (causal attention never looks there).

    shapes: S and M of each bucket. cells: [N] int64, the position that each cell holds, bucket after bucket.
    first_cells: [L] int64, the first cell that holds each position. repeated_cells: [R] int64, the further cells that
    hold a position.
    """

    shapes: tuple[tuple[int, int], ...]
    cells: Tensor
    first_cells: Tensor
    repeated_cells: Tensor
    padding: int = 0
    """Positions after the L, to which no token attends."""

    def to(self, device: torch.device | str) -> VarlenLayout:
        cells, first, repeated = (tensor.to(device) for tensor in (self.cells, self.first_cells, self.repeated_cells))
        return replace(self, cells=cells, first_cells=first, repeated_cells=repeated)

    def padded_by(self, positions: int) -> VarlenLayout:
        return replace(self, padding=self.padding + positions)

    def attend(self, causal: CausalAttention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        sizes = [rows * length for rows, length in self.shapes]
        # [1, A, L, D] -> [N, A, D] each, split into buckets
        rows = (tensor.transpose(1, 2).squeeze(0) for tensor in (query, key, value))
        buckets = (torch.split(_GatherCells.apply(row, self), sizes) for row in rows)  # type: ignore[no-untyped-call]
        outputs = []
        for shape, *parts in zip(self.shapes, *buckets, strict=True):
            batch = (part.view(*shape, *part.shape[1:]).transpose(1, 2) for part in parts)
            outputs.append(causal(*batch).transpose(1, 2).flatten(0, 1))
        taken: Tensor = _TakeCells.apply(torch.cat(outputs), self.first_cells)  # type: ignore[no-untyped-call]
        return self.pad(taken).unsqueeze(0).transpose(1, 2)

    def pad(self, values: Tensor) -> Tensor:
        """Append zeros for the padding to the values of the L positions."""
        return torch.cat([values, values.new_zeros(self.padding, *values.shape[1:])]) if self.padding else values


def register() -> None:
    """Register `rlx_varlen` with transformers. It has no entry among the mask functions, so no mask is built for it."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, varlen_attention)


def varlen_layout(paths: Sequence[Sequence[int]]) -> VarlenLayout:
    """Return the layout of a row with sequence i at the positions `paths[i]`, in order.

    Together the paths cover the row.
    """
    buckets: list[list[Sequence[int]]] = []
    for path in sorted(paths, key=len, reverse=True):
        if not buckets or len(path) < _BUCKET_FILL * len(buckets[-1][0]):
            buckets.append([])
        buckets[-1].append(path)
    cells: list[int] = []
    first: dict[int, int] = {}
    repeated: list[int] = []
    for bucket in buckets:
        for path in bucket:
            for cell, position in enumerate(path, len(cells)):
                if first.setdefault(position, cell) != cell:
                    repeated.append(cell)
            cells += [*path, *([0] * (len(bucket[0]) - len(path)))]
    return VarlenLayout(
        tuple((len(bucket), len(bucket[0])) for bucket in buckets),
        torch.tensor(cells),
        torch.tensor([first[position] for position in range(len(first))]),
        torch.tensor(repeated, dtype=torch.int64),
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
    rlx_layout: RowLayout | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attention function of transformers: query, key, value [1, A, L, D] -> [1, L, A, Dv].

    Without a layout, the rows of [B, A, L, D] are sequences padded on the right: causal attention needs no mask for
    them. Raises ValueError if the model passes a mask, or an option that isn't supported here.
    """
    for name in _UNSUPPORTED:
        if kwargs.get(name) is not None:
            raise ValueError(f"{NAME} attention does not support {name}={kwargs[name]!r}; set policy.packing = false")
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


def attention_over(layout: RowLayout) -> Attention:
    """Return the attention that an `rlx.BaseModel` uses for a packed row."""

    def attention(query: Tensor, key: Tensor, value: Tensor, *, scale: float | None = None) -> Tensor:
        return layout.attend(partial(causal_attention, scale=scale), query, key, value)

    return attention


class _GatherCells(torch.autograd.Function):
    """Gather a row into the cells of a layout: [L + padding, A, D] -> [N, A, D].

    The gradient of a position is the sum over all cells that hold it, in float32: a prompt is there once for each of
    its completions. Cells that pad a sequence have no gradient.
    """

    @staticmethod
    def forward(ctx: Any, row: Tensor, layout: VarlenLayout) -> Tensor:
        ctx.layout = layout
        return row.index_select(0, layout.cells)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        layout: VarlenLayout = ctx.layout
        total = gradient.index_select(0, layout.first_cells)
        if layout.repeated_cells.numel():
            total = total.to(torch.promote_types(gradient.dtype, torch.float32))
            further = gradient.index_select(0, layout.repeated_cells).to(total.dtype)
            total.index_add_(0, layout.cells.index_select(0, layout.repeated_cells), further)
        return layout.pad(total.to(gradient.dtype)), None


class _TakeCells(torch.autograd.Function):
    """`values.index_select(0, cells)` for cells that are all different.

    Its gradient is copied instead of added up, which is faster than `index_select`'s own.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, cells: Tensor) -> Tensor:
        ctx.save_for_backward(cells)
        ctx.size = values.shape[0]
        return values.index_select(0, cells)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (cells,) = ctx.saved_tensors
        whole = gradient.new_zeros(ctx.size, *gradient.shape[1:])
        return whole.index_copy_(0, cells, gradient), None
