"""The section `[sync]`."""

from __future__ import annotations

from pydantic import Field

from rlx.config.sections.base import Section


class SyncConfig(Section):
    """Transfer of weights into the engines, and its verification."""

    max_logprob_diff: float | None = Field(None, gt=0)
    """Largest mean |difference| between the trainer's and an engine's log-probabilities after a sync. Default: by the
    engine's dtype (1e-4 for float32, 0.05 for float16, 0.2 for bfloat16)."""
    timeout_seconds: float = Field(300.0, gt=0)
    """For each phase of a sync."""
