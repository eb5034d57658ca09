"""Groups as the controller gets them: episodes of what was sampled, and the figures that go with them.

The rule of this part: a reward of None was not scored; it is left out of means, never counted as 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rlx.episodes import Episode, encode_episodes, single_turn
from rlx.errors import RlxError
from rlx.packers.tokenizer import Tokenizer
from rlx.rollout.completion import LENGTH, Completion
from rlx.transport.messages import GroupDone, GroupFailed, Lease


def make_episodes(
    lease: Lease, prompt: list[int], sampled: Sequence[Completion], tokenizer: Tokenizer
) -> list[Episode]:
    """One single-turn episode for each completion, without rewards."""
    texts = tokenizer.batch_decode([one.tokens for one in sampled], skip_special_tokens=True)
    prompt_text = tokenizer.decode(prompt)
    return [
        Episode(
            group_id=lease.group_id,
            sample=sample,
            dataset_index=lease.index,
            trajectories=[
                single_turn(
                    prompt,
                    one.tokens,
                    logprobs=one.logprobs,
                    versions=one.versions,
                    finish_reason=one.finish_reason,
                )
            ],
            text=text,
            prompt_text=prompt_text,
            stop_reason=one.finish_reason,
            seed=lease.seed + sample,
        )
        for sample, (one, text) in enumerate(zip(sampled, texts, strict=True))
    ]


def finished_group(
    lease: Lease,
    prompt: list[int],
    episodes: Sequence[Episode],
    *,
    filters: list[float | None],
    generate_seconds: float,
    score_seconds: float,
) -> GroupDone:
    """The message for a scored group. `filters`: each episode's, where the run has filter rewards."""
    lengths = [episode.sampled_tokens for episode in episodes]
    oldest = [episode.oldest_version for episode in episodes]
    return GroupDone(
        group_id=lease.group_id,
        kind=lease.kind,
        index=lease.index,
        oldest_version=min((version for version in oldest if version is not None), default=lease.version),
        tokens=sum(lengths),
        prompt_tokens=len(prompt),
        rewards=[episode.total_reward for episode in episodes],
        accuracies=[episode.rewards[0].value if episode.rewards else None for episode in episodes],
        reward_means=_means((reward.name, reward.value) for episode in episodes for reward in episode.rewards),
        lengths=lengths,
        truncated=sum(episode.stop_reason == LENGTH for episode in episodes),
        metrics=_means(figure for episode in episodes for figure in episode.metrics.items()),
        generate_seconds=generate_seconds,
        score_seconds=score_seconds,
        payload=encode_episodes(episodes),
        filters=filters,
    )


def failed_group(lease: Lease, error: RlxError) -> GroupFailed:
    """The message for a group that cannot be had."""
    owner, drop = getattr(error, "owner", ""), getattr(error, "drop", False)
    return GroupFailed(lease.group_id, lease.kind, str(error), owner=owner, drop=drop)


def _means(figures: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for name, value in figures:
        if value is not None:
            values.setdefault(name, []).append(value)
    return {name: sum(found) / len(found) for name, found in values.items()}
