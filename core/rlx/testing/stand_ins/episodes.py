"""Episodes for tests of plugins."""

from __future__ import annotations

from collections.abc import Sequence

from rlx.episodes import Episode, Reward, VersionSpan, single_turn


def make_episode(
    prompt: Sequence[int],
    tokens: Sequence[int],
    *,
    group: int = 0,
    sample: int = 0,
    text: str = "A completion.",
    rewards: Sequence[Reward] = (),
) -> Episode:
    """Return a single-turn episode whose completion is `tokens`, sampled at weight version 0."""
    trajectory = single_turn(
        list(prompt),
        list(tokens),
        logprobs=[-0.5] * len(tokens),
        versions=[VersionSpan(0, len(tokens))],
        finish_reason="stop",
    )
    return Episode(
        group, sample, group, [trajectory], text, "A prompt.", list(rewards), stop_reason="stop", seed=sample
    )
