"""Attention over a packed row: sequences of different lengths, and prompts that several of them share.

The rules of this part:

* Everything but attention works on the flat row [1, L], which holds each token once and no padding. Attention alone
  gathers the row into batches of sequences, runs causal `scaled_dot_product_attention`, and takes each slot's output
  back.
* A shared prompt is gathered into each of its sequences. Its output is taken from the first; gradients of its keys and
  values add up over all, in float32.
* It is plain causal attention and nothing else: a model that asks for a window, a soft cap, sinks or a bias gets an
  error here, and is not sent here in the first place (`rlx.policy.support`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812

from rlx.api.base_model import Attention, causal_attention
from rlx.policy.batch import Causal, Layout

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = "rlx_varlen"
_BUCKET_FILL = 0.75
"""A bucket's shortest sequence has at least this share of the longest's tokens."""
_UNSUPPORTED = ("sliding_window", "softcap", "s_aux", "position_bias")


@dataclass(frozen=True)
class VarlenLayout:
    """Which slots of a packed row make up which sequences.

    buckets: each [S, M] int64, S sequences of at most M tokens, as slots of the row in order of position; shorter
    sequences are filled up on the right with any slot (causal attention never looks there). source: [L] int64, for each
    slot of the row, where its output lies in the buckets laid end to end.
    """

    buckets: tuple[Tensor, ...]
    source: Tensor

    def to(self, device: torch.device | str) -> VarlenLayout:
        return VarlenLayout(tuple(bucket.to(device) for bucket in self.buckets), self.source.to(device))

    def filled(self, slots: int) -> VarlenLayout:
        # What fills the row takes the output of the first slot, whatever that is.
        return VarlenLayout(self.buckets, F.pad(self.source, (0, slots)))

    def attend(self, causal: Causal, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        rows = [tensor.transpose(1, 2).squeeze(0) for tensor in (query, key, value)]
        outputs = []
        for bucket in self.buckets:
            gathered = (_gather(row, bucket).transpose(1, 2) for row in rows)
            outputs.append(causal(*gathered).transpose(1, 2).flatten(0, 1))
        return torch.cat(outputs).index_select(0, self.source).unsqueeze(0).transpose(1, 2)


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
    source: dict[int, int] = {}
    tensors = []
    offset = 0
    for bucket in buckets:
        width = len(bucket[0])
        for row, path in enumerate(bucket):
            for column, slot in enumerate(path):
                source.setdefault(slot, offset + row * width + column)
        tensors.append(torch.tensor([[*path, *([0] * (width - len(path)))] for path in bucket]))
        offset += width * len(bucket)
    return VarlenLayout(tuple(tensors), torch.tensor([source[slot] for slot in range(len(source))]))


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


def _gather(rows: Tensor, index: Tensor) -> Tensor:
    gathered: Tensor = _GatherRows.apply(rows, index.flatten())  # type: ignore[no-untyped-call]
    return gathered.view(*index.shape, *rows.shape[1:])


class _GatherRows(torch.autograd.Function):
    """`rows.index_select(0, index)` whose gradient is summed in float32: a prompt's row occurs once for each
    completion.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.rows = rows.shape[0]
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        wide = torch.promote_types(gradient.dtype, torch.float32)
        total = torch.zeros(ctx.rows, *gradient.shape[1:], dtype=wide, device=gradient.device)
        return total.index_add_(0, index, gradient.to(wide)).to(gradient.dtype), None
