"""The section `[sync]`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from pydantic import Field

from rlx.config.sections.base import Seconds, Section


class SyncConfig(Section):
    """Transfer of weights into the engines, and its verification."""

    REASONS: ClassVar[Mapping[tuple[str, str], str]] = MappingProxyType(
        {
            ("max_logprob_diff", "ge"): "equal weights differ by about 1e-7 in float32",
            ("max_logprob_diff", "le"): "wrong weights differ by less, so it would find nothing",
        }
    )

    max_logprob_diff: float | None = Field(None, ge=1e-9, le=10)
    """Largest mean |difference| between the trainer's and an engine's log-probabilities after a sync. Default: by the
    engine's dtype (1e-4 for float32, 0.05 for float16, 0.2 for bfloat16)."""
    timeout_seconds: Seconds = 300.0
    """For each phase of a sync."""
