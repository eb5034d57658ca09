"""`[async]`, `[sync]`, `[eval]`, `[checkpoint]`, `[plugins]`: how the run flows, and what it proves and keeps."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import Field

from rlx.config.base import Section
from rlx.config.data import DatasetConfig, PackerConfig, RewardConfig


class AsyncConfig(Section):
    """How far sampling may run ahead of training."""

    max_staleness: int = Field(0, ge=0)
    """A group is trained at most so many optimizer steps after the version of its oldest token. 0: synchronous,
    on-policy, and repeatable bit for bit."""


class SyncConfig(Section):
    """Weights on their way into the engines, and the proof that they arrived."""

    max_logprob_diff: float | None = Field(None, gt=0)
    """Largest mean |difference| between the trainer's and an engine's log-probabilities after a sync. Default: by the
    engine's dtype (1e-4 for float32, 0.05 for float16, 0.2 for bfloat16)."""
    timeout_seconds: float = Field(300.0, gt=0)
    """For each phase of a sync."""


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
    """Only the first so many rows."""
    samples: int = Field(1, ge=1)
    """Completions for each row."""
    temperature: float = Field(1.0, ge=0)
    """0 is greedy."""
    max_tokens: int | None = Field(None, ge=1)
    """Default: the rollout's."""


Preference = Literal["lowest", "highest"]

PREFERENCES: Mapping[str, Preference] = MappingProxyType(
    {"eval/loss": "lowest", "eval/perplexity": "lowest", "eval/accuracy": "highest", "eval/reward": "highest"}
)
"""Figures of which it is known what is better."""


class BestConfig(Section):
    """Which evaluated version is the best. Its checkpoint is kept beside the newest ones, and it is what is
    exported.
    """

    metric: str
    """A figure of the evaluation, by its name in metrics.jsonl, as `eval/loss`. Where the first evaluation does not
    have it, the run ends before its first step."""
    prefer: Preference | None = None
    """Default: lowest for `eval/loss` and `eval/perplexity`, highest for `eval/accuracy` and `eval/reward`. Any other
    metric needs it."""

    @property
    def lowest(self) -> bool:
        return (self.prefer or PREFERENCES[self.metric]) == "lowest"


class CheckpointConfig(Section):
    """What is kept to go on from."""

    every: int | None = Field(None, ge=1)
    """Steps between checkpoints. Default: only at the end."""
    keep: int = Field(2, ge=0)
    """How many to keep, newest first; 0 keeps all. The best one is kept besides."""
    best: BestConfig | None = None
    """Default: none is better than another, and the final policy is exported."""
    export: bool = True
    """Write the final policy, or the best one, as a Hugging Face folder."""

    @property
    def midway(self) -> bool:
        """Whether there are checkpoints before the end."""
        return self.every is not None or self.best is not None


class PluginsConfig(Section):
    """Hooks take part only if they are listed here."""

    enable: list[str] = []
    """`rlx.hooks` plugins, in call order."""
    best_effort: list[str] = []
    """Those of `enable` that may raise without ending the run."""
