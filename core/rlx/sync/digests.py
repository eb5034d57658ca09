"""64-bit digests of tensors, with which the two ends of a weight sync prove that they hold the same bits.

Rules:

* A digest depends on the elements in their logical order, not on strides or memory layout: a slice of what was sent
  and the part of a fused parameter into which it was loaded have the same digest if their elements are the same.
* Any single changed element changes the digest. Several changes go unnoticed with a probability of about 2^-63 each.
  It does not defend against someone who chooses the weights.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

_WORD = 8
_COLUMNS = 1024
_FACTORS = (0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B9)


@torch.no_grad()
def digest(tensor: Tensor) -> int:
    """Return the digest of a tensor of any dtype and device: a signed 64-bit number.

    The tensor's bytes are read as 64-bit words in rows of 1024. Each word is multiplied by the sum of a weight of its
    column and a weight of its row, and the products are added modulo 2^64. As sums over columns and rows, that costs
    two reads of the tensor and no copy of it if it is contiguous.
    """
    data = tensor.detach().contiguous().view(-1)
    if data.storage_offset() * data.element_size() % _WORD:
        data = data.clone()
    data = data.view(torch.uint8)
    whole = data.numel() // _WORD
    words, tail = data[: whole * _WORD].view(torch.int64), data[whole * _WORD :].to(torch.int64)
    rows = words.numel() // _COLUMNS
    table, rest = words[: rows * _COLUMNS].view(rows, _COLUMNS), words[rows * _COLUMNS :]
    columns = _weights(_COLUMNS, 0, data.device)
    total = (table.sum(0) * columns).sum() + (table.sum(1) * _weights(rows, 1, data.device)).sum()
    # The rest is a row of its own, whose weights differ from all others.
    last = torch.cat([rest, tail])
    total += (last * _weights(len(last), 2, data.device)).sum()
    return int(total)


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have the same dtype, shape and bits. Equal NaNs are the same; 0.0 and -0.0 aren't."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[one.element_size()]
    return torch.equal(one.contiguous().view(integer), other.contiguous().view(integer))


@lru_cache(256)
def _weights(count: int, stream: int, device: torch.device) -> Tensor:
    """Return `count` fixed pseudo-random odd numbers, int64 [count]."""
    mixed = (torch.arange(count, dtype=torch.int64, device=device) * 3 + stream + 1) * _FACTORS[0]
    mixed = (mixed ^ (mixed >> 31)) * _FACTORS[1]
    return (mixed ^ (mixed >> 29)) | 1
