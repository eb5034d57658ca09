"""FP8 checkpoints: weights in float8 with one scale for each block, as DeepSeek publishes them.

`X.weight` [out, in] is float8_e4m3fn, and `X.weight_scale_inv` is float32 [out / block, in / block], rounded up; the
weight's value is their product. It is stored in bfloat16, as by DeepSeek's own conversion.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rlx import UsageError

SUFFIX = "_scale_inv"
BLOCK = (128, 128)


def block_size(hf_config: Any) -> tuple[int, int]:
    """Return the block size of the checkpoint that a config describes."""
    given = getattr(hf_config, "quantization_config", None) or {}
    rows, columns = given.get("weight_block_size") or BLOCK
    return int(rows), int(columns)


def plain(tensors: Iterator[tuple[str, Tensor]], block: tuple[int, int] = BLOCK) -> Iterator[tuple[str, Tensor]]:
    """Yield a checkpoint's tensors, FP8 ones as bfloat16 and without their scales.

    Raises UsageError if a weight or its scale is missing.
    """
    waiting: dict[str, Tensor] = {}
    for name, tensor in tensors:
        weight = name.removesuffix(SUFFIX)
        if weight == name and tensor.dtype != torch.float8_e4m3fn:
            yield name, tensor
        elif weight not in waiting:
            waiting[weight] = tensor
        else:
            other = waiting.pop(weight)
            pair = (tensor, other) if weight == name else (other, tensor)
            yield weight, dequantised(weight, *pair, block)
    for name, tensor in waiting.items():
        lacking = name + SUFFIX if tensor.dtype == torch.float8_e4m3fn else f"{name} in float8_e4m3fn"
        raise UsageError(f"The checkpoint has only one of a weight and its scale: {lacking} is missing.")


def dequantised(name: str, weight: Tensor, scale: Tensor, block: tuple[int, int] = BLOCK) -> Tensor:
    """Return the weight times its scale, in bfloat16. Raises UsageError if their shapes don't fit."""
    needed = [-(-size // step) for size, step in zip(weight.shape, block, strict=True)]
    if list(scale.shape) != needed:
        raise UsageError(
            f"{name}{SUFFIX} has the shape {list(scale.shape)}; for {list(weight.shape)} in blocks of {list(block)} it "
            f"must be {needed}."
        )
    rows, columns = weight.shape
    scales = scale.float().repeat_interleave(block[0], 0)[:rows].repeat_interleave(block[1], 1)[:, :columns]
    return (weight.float() * scales).bfloat16()
