"""The section `[async]`."""

from __future__ import annotations

from pydantic import Field

from rlx.config.sections.base import Section


class AsyncConfig(Section):
    """How far sampling may run ahead of training."""

    max_staleness: int = Field(0, ge=0, le=1_000_000)
    """A group is trained at most this many optimizer steps after the version of its oldest token. 0: synchronous,
    on-policy, and repeatable bit for bit."""
