"""`[algorithm]`: how rewards become a gradient."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from rlx.config.sections.base import Component


class AlgorithmConfig(Component):
    """How rewards become a gradient."""

    kind: ClassVar[str] = "algorithms"

    name: str = "grpo"
    """An `rlx.algorithms` plugin: `grpo`, `sft`, ..."""
    group_size: int = Field(8, ge=1, le=65_536)
    """Completions sampled of each prompt (RL only)."""
    drop_uninformative: bool = False
    """Train on no group whose filter totals are all equal: it is dropped, counted in `groups/uninformative`, and
    another prompt is sampled in its place."""
