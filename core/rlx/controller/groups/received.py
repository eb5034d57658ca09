"""Checks a group that a replica sends, before anything is trained on it.

A replica whose memory, engine or code is broken may send numbers that train, and ruin the weights without a word.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from rlx.episodes import Episode, Segment, decode_episodes
from rlx.errors import RunError
from rlx.transport.messages import GroupDone


class UnusableGroupError(RunError):
    """A replica sent a group that no correct replica sends. The replica counts as failed."""


def check_group(message: GroupDone, *, samples: int, vocab_size: int) -> None:
    """Raise UnusableGroupError unless a group is what was leased, and its sampled tokens can be trained.

    samples: completions of a group. vocab_size: 0 if it is unknown.
    """
    if why := next(_faults(message, samples, vocab_size), ""):
        raise UnusableGroupError(f"it sent group {message.group_id} of {message.kind}, which can't be used: {why}")


def _faults(message: GroupDone, samples: int, vocab_size: int) -> Iterator[str]:
    try:
        episodes = decode_episodes(message.payload)
    except msgspec.MsgspecError as error:
        yield f"its episodes can't be decoded ({error})"
        return
    numbers = {
        "episodes": len(episodes),
        "rewards": len(message.rewards),
        "accuracies": len(message.accuracies),
        "lengths": len(message.lengths),
    }
    for name, number in numbers.items():
        if number != samples:
            yield f"it has {number} {name}, and {samples} were asked for"
    if message.tokens != sum(message.lengths):
        yield f"it claims {message.tokens} sampled tokens, and the lengths of its episodes add up to another number"
    for episode, length in zip(episodes, message.lengths, strict=True):
        if (episode.group_id, episode.dataset_index) != (message.group_id, message.index):
            yield f"an episode is of group {episode.group_id}, row {episode.dataset_index}"
        yield from _faults_of(episode, length, vocab_size)


def _faults_of(episode: Episode, length: int, vocab_size: int) -> Iterator[str]:
    where = f"in episode {episode.sample}"
    sampled = [segment for part in episode.trajectories for segment in part.segments if segment.kind == "sampled"]
    if sum(len(segment.tokens) for segment in sampled) != length:
        yield f"{where} there are not as many sampled tokens as it claims ({length})"
    for segment in sampled:
        yield from (f"{where} {fault}" for fault in _faults_in(segment, vocab_size))


def _faults_in(segment: Segment, vocab_size: int) -> Iterator[str]:
    tokens = segment.tokens
    if len(segment.logprobs) != len(tokens):
        yield f"there are {len(tokens)} tokens and {len(segment.logprobs)} log-probabilities"
    # A sum is not finite if one of its terms isn't, and takes a fraction of the time of looking at each.
    if not math.isfinite(sum(segment.logprobs)):
        yield "a log-probability is not a finite number"
    if sum(span.length for span in segment.versions) != len(tokens):
        yield "the weight versions are not those of its tokens"
    if tokens and (min(tokens) < 0 or (vocab_size and max(tokens) >= vocab_size)):
        yield f"a token is outside of the vocabulary of {vocab_size} (from {min(tokens)} to {max(tokens)})"
