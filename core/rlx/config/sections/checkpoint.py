"""The section `[checkpoint]`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import Field

from rlx.config.sections.base import MANY_STEPS, Seconds, Section

Preference = Literal["lowest", "highest"]

PREFERENCES: Mapping[str, Preference] = MappingProxyType(
    {"eval/loss": "lowest", "eval/perplexity": "lowest", "eval/accuracy": "highest", "eval/reward": "highest"}
)
"""Metrics of evaluations -> the better direction."""


class BestConfig(Section):
    """Choice of the best evaluated version. Its checkpoint is kept beside the newest ones, and it is exported."""

    metric: str
    """A metric of the evaluation, by its name in metrics.jsonl, as `eval/loss`. If the first evaluation does not have
    it, the run ends before its first step."""
    prefer: Preference | None = None
    """Default: lowest for `eval/loss` and `eval/perplexity`, highest for `eval/accuracy` and `eval/reward`. Any other
    metric needs it."""

    @property
    def lowest(self) -> bool:
        return (self.prefer or PREFERENCES[self.metric]) == "lowest"


class CheckpointConfig(Section):
    """Checkpoints to resume from, and the export at the end. A signal SIGUSR1 to `rlx run` also saves one."""

    every: int | None = Field(None, ge=1, le=MANY_STEPS)
    """Steps between checkpoints. Default: only at the end."""
    every_seconds: Seconds | None = None
    """Also save after the first step that ends this long after the last checkpoint. Default: `every` alone decides."""
    keep: int = Field(2, ge=0, le=1_000_000)
    """How many to keep, newest first; 0 keeps all. The best one is kept besides."""
    best: BestConfig | None = None
    """Default: none is better than another, and the final policy is exported."""
    export: bool = True
    """Write the final policy, or the best one, as a Hugging Face folder."""

    @property
    def midway(self) -> bool:
        """Whether there are checkpoints before the end."""
        return self.every is not None or self.every_seconds is not None or self.best is not None
