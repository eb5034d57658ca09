"""What an engine emits."""

from __future__ import annotations

from dataclasses import dataclass

from rlx.episodes import VersionSpan

LENGTH = "length"
"""The finish reason of a completion that was cut off."""
ENDINGS = {"stop", LENGTH}
"""How a completion ends that may be learnt from."""


@dataclass(frozen=True)
class Completion:
    """One completion. `logprobs` are as many as `tokens`; the end-of-text token that was sampled is one of them."""

    tokens: list[int]
    logprobs: list[float]
    versions: list[VersionSpan]
    finish_reason: str
