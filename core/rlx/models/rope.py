"""Rotary frequencies that depend on the length of a sequence.

Two kinds of scaling have frequencies of their own for long sequences: `longrope` and `dynamic` (NTK). transformers
chooses them by the longest sequence of a forward, whatever else is in it; vLLM once, by the engine's longest sequence.
The two agree as long as no sequence, and no engine, is longer than the limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlx.models.base_model import HFConfig


@dataclass(frozen=True)
class RopeLimit:
    """The longest sequence that has a model's first rotary frequencies."""

    kind: str
    """`longrope` or `dynamic`."""
    tokens: int
    engine_tokens: int
    """Longest sequence of a vLLM engine whose `max_model_len` isn't set."""


def rope_limit(hf_config: HFConfig) -> RopeLimit | None:
    """Return the limit of a model whose rotary frequencies depend on the length of a sequence; None for others."""
    config = hf_config.get_text_config()
    context = getattr(config, "max_position_embeddings", None)
    for rope in _rope_parameters(config):
        kind = rope.get("rope_type")
        if kind == "longrope":
            first = getattr(config, "original_max_position_embeddings", None)
            limit = rope.get("original_max_position_embeddings") or first
            if limit and context:
                return RopeLimit(kind, int(limit), int(first or context))
        # With `alpha` the frequencies are scaled once and for all.
        if kind == "dynamic" and context and not rope.get("alpha"):
            return RopeLimit(kind, int(context), int(context * rope.get("factor", 1.0)))
    return None


def _rope_parameters(config: HFConfig) -> Iterator[Mapping[str, Any]]:
    """Yield the parameters of all layers, or those of each kind of layers."""
    given = getattr(config, "rope_parameters", None)
    if isinstance(given, Mapping):
        yield from (given,) if "rope_type" in given else (part for part in given.values() if isinstance(part, Mapping))
