"""`[algorithm]`: how rewards become a gradient."""

from __future__ import annotations

from pydantic import Field

from rlx.config.base import Component


class AlgorithmConfig(Component):
    """How rewards become a gradient."""

    name: str = "grpo"
    """An `rlx.algorithms` plugin: `grpo`, `sft`, ..."""
    group_size: int = Field(8, ge=1)
    """Completions sampled of each prompt (RL only)."""
