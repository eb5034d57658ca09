"""A sampled completion."""

from __future__ import annotations

from dataclasses import dataclass

from rlx.episodes import VersionSpan

LENGTH = "length"
"""The finish reason of a truncated completion."""
STOP = "stop"
"""The finish reason of a completion that ended with an end-of-text token."""
FINISH_REASONS = {STOP, LENGTH}
"""The finish reasons of completions that may be trained on."""


@dataclass(frozen=True)
class Completion:
    """The sampled tokens, including a sampled end-of-text token, and the log-probability of each."""

    tokens: list[int]
    logprobs: list[float]
    versions: list[VersionSpan]
    finish_reason: str
