"""Builds the messages for finished and failed groups, with the metrics that the controller aggregates.

Rules:

* A reward of None was not scored. It is left out of means, never counted as 0.
* A completion's text, as rewards and trajectories have it, lacks the token that ended it, and the tokenizer's BOS, EOS,
  padding and unknown token. Other special tokens, such as `<think>`, are in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rlx.episodes import Episode, encode_episodes, named_means, single_turn
from rlx.errors import BadRowError, RlxError
from rlx.packers.tokenizer import Tokenizer
from rlx.rewards.serialization import UNSENDABLE, to_plain
from rlx.rollout.completion import LENGTH, STOP, Completion
from rlx.transport.messages import GroupDone, GroupFailed, Lease


def make_episodes(
    lease: Lease, prompt: list[int], completions: Sequence[Completion], tokenizer: Tokenizer
) -> list[Episode]:
    """Return one single-turn episode for each completion, without rewards."""
    texts = completion_texts(completions, tokenizer)
    prompt_text = tokenizer.decode(prompt)
    return [
        Episode(
            group_id=lease.group_id,
            sample=sample,
            dataset_index=lease.index,
            trajectories=[
                single_turn(
                    prompt,
                    completion.tokens,
                    logprobs=completion.logprobs,
                    versions=completion.versions,
                    finish_reason=completion.finish_reason,
                )
            ],
            text=text,
            prompt_text=prompt_text,
            stop_reason=completion.finish_reason,
            seed=lease.seed + sample,
        )
        for sample, (completion, text) in enumerate(zip(completions, texts, strict=True))
    ]


def completion_texts(completions: Sequence[Completion], tokenizer: Tokenizer) -> list[str]:
    """Return the texts of completions, by the rules of this module."""
    markers = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    markers.add(getattr(tokenizer, "unk_token_id", None))
    return tokenizer.batch_decode(
        [[token for token in _without_end(completion, tokenizer) if token not in markers] for completion in completions]
    )


def _without_end(completion: Completion, tokenizer: Tokenizer) -> list[int]:
    """Return the completion's tokens without the special token that ended it. A model may have several of these."""
    tokens = completion.tokens
    ended = completion.finish_reason == STOP and bool(tokens)
    return tokens[:-1] if ended and not tokenizer.decode(tokens[-1:], skip_special_tokens=True) else tokens


def finished_group(
    lease: Lease,
    prompt: list[int],
    episodes: Sequence[Episode],
    *,
    reference: object = None,
    filters: list[float | None],
    generate_seconds: float,
    score_seconds: float,
) -> GroupDone:
    """Return the message for a scored group.

    reference: the row's reference answer. filters: filter total of each episode, if the run has filter rewards.
    """
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
        reward_means=named_means((reward.name, reward.value) for episode in episodes for reward in episode.rewards),
        lengths=lengths,
        truncated=sum(episode.stop_reason == LENGTH for episode in episodes),
        metrics=named_means(metric for episode in episodes for metric in episode.metrics.items()),
        generate_seconds=generate_seconds,
        score_seconds=score_seconds,
        payload=encode_episodes(episodes),
        reference=reference_text(reference),
        filters=filters,
    )


def reference_text(reference: object) -> str | None:
    """Return a reference answer for people: text as it is, anything else as JSON."""
    if reference is None or isinstance(reference, str):
        return reference
    try:
        return msgspec.json.encode(reference, enc_hook=to_plain).decode()
    except UNSENDABLE:  # such as a dict with tuples for keys, which MessagePack has and JSON has not
        return str(reference)


def failed_group(lease: Lease, error: RlxError, *, drop_bad_rows: bool) -> GroupFailed:
    """Return the message for a group that could not be sampled or scored."""
    if isinstance(error, BadRowError):
        return GroupFailed(lease.group_id, lease.kind, str(error), drop=drop_bad_rows, bad_row=error.reason)
    owner, drop = getattr(error, "owner", ""), getattr(error, "drop", False)
    return GroupFailed(lease.group_id, lease.kind, str(error), owner=owner, drop=drop)
