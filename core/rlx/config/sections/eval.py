"""The section `[eval]`."""

from __future__ import annotations

from pydantic import Field

from rlx.config.sections.base import Section
from rlx.config.sections.data import DatasetConfig, PackerConfig, RewardConfig


class EvalConfig(Section):
    """Held-out evaluation: before the first step, every n steps, at the end."""

    dataset: DatasetConfig
    """The held-out rows."""
    rewards: list[RewardConfig] | None = None
    """Default: the training rewards."""
    packer: PackerConfig | None = None
    """How held-out rows become tokens. Default: the training packer."""
    every: int | None = Field(None, ge=1)
    """Steps between evaluations. Default: only before the first step and at the end."""
    limit: int | None = Field(None, ge=1)
    """Only this many rows, from the first one on."""
    samples: int = Field(1, ge=1)
    """Completions for each row."""
    temperature: float = Field(1.0, ge=0)
    """0 is greedy."""
    max_tokens: int | None = Field(None, ge=1)
    """Default: the rollout's."""
