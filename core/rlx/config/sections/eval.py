"""The section `[eval]`."""

from __future__ import annotations

from pydantic import Field

from rlx.config.sections.base import MANY_STEPS, MAX_TOKENS, Section
from rlx.config.sections.data import DatasetConfig, PackerConfig, RewardConfig
from rlx.config.sections.rollout import MAX_TEMPERATURE


class EvalConfig(Section):
    """Held-out evaluation: before the first step, every n steps, at the end."""

    dataset: DatasetConfig
    """The held-out rows."""
    rewards: list[RewardConfig] | None = None
    """Default: the training rewards."""
    packer: PackerConfig | None = None
    """How held-out rows become tokens. Default: the training packer."""
    every: int | None = Field(None, ge=1, le=MANY_STEPS)
    """Steps between evaluations. Default: only before the first step and at the end."""
    limit: int | None = Field(None, ge=1, le=1_000_000_000)
    """Only this many rows, from the first one on."""
    samples: int = Field(1, ge=1, le=10_000)
    """Completions for each row."""
    temperature: float = Field(1.0, ge=0, le=MAX_TEMPERATURE)
    """0 is greedy; otherwise at least 0.01, as in `[rollout]`."""
    max_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    """Default: the rollout's."""
