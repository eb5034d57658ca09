"""The task on which rlx and TRL are both timed: short prompts, and a reward that takes no time."""

from __future__ import annotations

from typing import Any

TOPICS = ("the sea", "a train", "the moon", "an old clock", "rain", "a garden", "winter", "a bridge")


def messages() -> list[list[dict[str, str]]]:
    """Return 64 chat prompts of about 43 tokens with SmolLM2's template."""
    return [
        [{"role": "user", "content": f"Say one short thing about {topic}, number {i}."}]
        for i in range(8)
        for topic in TOPICS
    ]


def sums() -> list[str]:
    """Return 1,024 prompts like those of the quickstart, for its 1M-parameter model."""
    return [f"{a:02d}+{b:02d}=" for a in range(32) for b in range(32)]


def vowel_share(to_be_evaluated: str, reference: Any = None, **kwargs: Any) -> float:
    """Return the share of vowels: rewards differ within a group, and no model maximises them at once."""
    return sum(letter in "aeiou024" for letter in to_be_evaluated) / max(len(to_be_evaluated), 1)


def vowel_shares(completions: list[Any], **kwargs: Any) -> list[float]:
    """Return the shares of vowels, with the signature of TRL's rewards."""
    return [vowel_share(c if isinstance(c, str) else c[-1]["content"]) for c in completions]
