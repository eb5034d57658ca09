"""Rotary position embeddings, and their extension by YaRN (arXiv 2309.00071).

Shapes: L positions, D the rotated part of a head, in pairs that rotate at one frequency each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlx import UsageError


def frequencies(rope: Mapping[str, Any], dim: int, context: int) -> tuple[Tensor, float]:
    """Return each pair's angle per position [D / 2], and the factor of sines and cosines.

    rope: `rope_parameters` of the config. context: its maximum number of tokens.
    """
    kind = rope.get("rope_type", "default")
    plain = rope["rope_theta"] ** -(torch.arange(0, dim, 2).float() / dim)
    if kind == "default":
        return plain, 1.0
    if kind != "yarn":
        raise UsageError(f"config.json: rope_type {kind!r} is not supported by rlx-plugin-deepseek: default or yarn.")
    factor = _factor(rope, context)
    kept = _kept(rope, dim)
    return plain / factor * (1 - kept) + plain * kept, _magnitude(rope, factor)


def score_scale(rope: Mapping[str, Any], context: int) -> float:
    """Return the factor of attention scores, in addition to `head size ** -0.5`."""
    everywhere = rope.get("mscale_all_dim")
    if rope.get("rope_type", "default") == "default" or not everywhere:
        return 1.0
    return _mscale(_factor(rope, context), everywhere) ** 2


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, interleaved: bool) -> Tensor:
    """Rotate x [..., L, D] by cos and sin [..., L, D / 2].

    interleaved: the entries of a pair are neighbours; else they are D / 2 apart. In the result they are D / 2 apart in
    both cases: scores don't depend on the order of dimensions.
    """
    first, second = (x[..., 0::2], x[..., 1::2]) if interleaved else x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _factor(rope: Mapping[str, Any], context: int) -> float:
    return float(rope.get("factor") or context / rope["original_max_position_embeddings"])


def _kept(rope: Mapping[str, Any], dim: int) -> Tensor:
    """Return the share of its frequency that each pair keeps [D / 2]: 1 for pairs that rotate often within the original
    context, 0 for slow ones, which are interpolated, and a linear ramp between.
    """
    theta, original = rope["rope_theta"], rope["original_max_position_embeddings"]

    def pair(turns: float) -> float:
        """Return the (fractional) index of the pair that makes `turns` rotations in the original context."""
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = pair(rope.get("beta_fast") or 32), pair(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, dim - 1)
    slope = max(last - first, 0.001)
    return 1 - ((torch.arange(dim // 2).float() - first) / slope).clamp(0, 1)


def _magnitude(rope: Mapping[str, Any], factor: float) -> float:
    given = rope.get("attention_factor")
    if given is not None:
        return float(given)
    here, everywhere = rope.get("mscale"), rope.get("mscale_all_dim")
    return _mscale(factor, here) / _mscale(factor, everywhere) if here and everywhere else _mscale(factor, 1.0)


def _mscale(factor: float, weight: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0
