"""Completions of one group as `Sample`s, for loggers and the people who read them."""

from __future__ import annotations

from collections.abc import Sequence

from rlx.controller.records.metrics import differ
from rlx.episodes import decode_episodes
from rlx.loggers.base import Sample
from rlx.transport.messages import GroupDone

SAMPLES = 8
MAX_CHARACTERS = 4000


def samples_of(groups: Sequence[GroupDone]) -> list[Sample]:
    """Return the first completions of one group: of the first whose rewards differ, or else of the first."""
    chosen = next((group for group in groups if differ(group.rewards)), groups[0])
    return [
        Sample(
            prompt=_without_middle(episode.prompt_text),
            completion=_without_middle(episode.text),
            reward=episode.total_reward,
            rewards={reward.name: reward.value for reward in episode.rewards},
            reference=None if chosen.reference is None else _without_middle(chosen.reference),
            group_id=episode.group_id,
            dataset_index=episode.dataset_index,
        )
        for episode in decode_episodes(chosen.payload)[:SAMPLES]
    ]


def _without_middle(text: str) -> str:
    """Return a text of at most MAX_CHARACTERS, without its middle if it is longer."""
    if len(text) <= MAX_CHARACTERS:
        return text
    end = MAX_CHARACTERS // 2 - 20
    return f"{text[:end]}[... {len(text) - 2 * end:,} characters ...]{text[-end:]}"
