"""Episode, trajectory, segment: the data that a sampler produces and a trainer learns from.

Rules:

* Tokens are the source of truth. A segment's ids are those that the engine read or emitted; text is never tokenised
  again on the way to the loss.
* A *segment* is a run of tokens of one kind. A *trajectory* is an append-only list of segments: every prompt that the
  engine saw is a prefix of its trajectory. An *episode* is one or more trajectories of one dataset row, with its
  rewards.
* The loss mask is `sampled and trainable`. A reward of None means "not scored", never 0.
* All of it is plain data: msgspec encodes it as MessagePack on the wire and in the ledger, or as JSON for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Literal

import msgspec

SegmentKind = Literal["prompt", "sampled", "observed"]
"""prompt: read by the engine first. sampled: emitted by the engine, or an SFT target. observed: read between turns."""


class VersionSpan(msgspec.Struct, frozen=True, array_like=True):
    """`length` consecutive tokens sampled with the weights of `version`."""

    version: int
    length: int


class Segment(msgspec.Struct, omit_defaults=True):
    """A run of tokens of one kind."""

    kind: SegmentKind
    tokens: list[int]
    logprobs: list[float] = []
    """Natural-log probability of each token under the distribution that it was drawn from, temperature applied; one for
    each of `tokens`. Empty for tokens that were not sampled (prompts, SFT targets)."""
    versions: list[VersionSpan] = []
    """The weight versions that sampled the tokens, in order; empty for tokens that were not sampled."""
    trainable: bool = True
    """False: sampled, but left out of the loss."""
    finish_reason: str | None = None
    """`stop` or `length`, for a sampled segment that ends a completion."""

    @property
    def learns(self) -> bool:
        """Whether the loss covers these tokens."""
        return self.kind == "sampled" and self.trainable


class Trajectory(msgspec.Struct):
    """An append-only list of segments. Its length is that of its tokens."""

    segments: list[Segment]

    @property
    def tokens(self) -> list[int]:
        """The tokens of all segments, in order."""
        return [token for segment in self.segments for token in segment.tokens]

    def __len__(self) -> int:
        return sum(len(segment.tokens) for segment in self.segments)


class Reward(msgspec.Struct, omit_defaults=True):
    """One reward's score of one episode."""

    name: str
    """The reward's label: `close` of `./shape.py:close`, unless the config gives it another."""
    value: float | None
    """None: not scored."""
    weight: float = 1.0
    """Its share of the total reward."""
    segment: tuple[int, int] | None = None
    """The sampled segment (trajectory index, segment index) that it belongs to; None: the whole episode. rlx itself
    always sets None; the field is for algorithms that assign rewards to segments."""


class Episode(msgspec.Struct, omit_defaults=True):
    """One attempt at one dataset row."""

    group_id: int
    sample: int
    """Its index within the group."""
    dataset_index: int
    """The number of the dataset row."""
    trajectories: list[Trajectory]
    text: str = ""
    """The completion as rewards read it: without the token that ended it, BOS, EOS, padding and unknown tokens."""
    prompt_text: str = ""
    rewards: list[Reward] = []
    """In the config's order."""
    metrics: dict[str, float] = {}
    stop_reason: str | None = None
    """`stop` or `length`."""
    error: str | None = None
    seed: int = 0
    """The seed that it was sampled with."""

    @property
    def total_reward(self) -> float | None:
        """Sum of weight * value over the rewards that scored; None if none did."""
        return total_of(self.rewards)

    def sampled_segments(self) -> Iterator[Segment]:
        """Yield the sampled segments, in order."""
        for trajectory in self.trajectories:
            for segment in trajectory.segments:
                if segment.kind == "sampled":
                    yield segment

    @property
    def sampled_tokens(self) -> int:
        """The number of sampled tokens."""
        return sum(len(segment.tokens) for segment in self.sampled_segments())

    @property
    def oldest_version(self) -> int | None:
        """The oldest weight version among the sampled tokens; None if there is none."""
        versions = [span.version for segment in self.sampled_segments() for span in segment.versions]
        return min(versions, default=None)


def version_span(episodes: Iterable[Episode]) -> tuple[int, int] | None:
    """Return the oldest and the newest weight version among the sampled tokens; None if there are none."""
    versions = {
        span.version
        for episode in episodes
        for segment in episode.sampled_segments()
        for span in segment.versions
        if span.length
    }
    return (min(versions), max(versions)) if versions else None


def total_of(rewards: Sequence[Reward]) -> float | None:
    """Return the sum of weight * value over the rewards that scored; None if none did."""
    scored = [reward.weight * reward.value for reward in rewards if reward.value is not None]
    return sum(scored) if scored else None


def named_means(values: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """Return the mean of each name's values. None means "not scored": it is left out, and so is a name without values.

    Names keep the order in which they first have a value.
    """
    found: dict[str, list[float]] = {}
    for name, value in values:
        if value is not None:
            found.setdefault(name, []).append(value)
    return {name: sum(numbers) / len(numbers) for name, numbers in found.items()}


def single_turn(
    prompt_tokens: Sequence[int],
    completion_tokens: Sequence[int],
    *,
    logprobs: Sequence[float] = (),
    versions: Sequence[VersionSpan] = (),
    finish_reason: str | None = None,
) -> Trajectory:
    """Return a prompt and its completion as the trajectory of a single-turn episode.

    `logprobs`: one for each completion token, or empty. `versions`: spans that cover the completion, or empty.
    """
    return Trajectory(
        [
            Segment("prompt", list(prompt_tokens)),
            Segment("sampled", list(completion_tokens), list(logprobs), list(versions), finish_reason=finish_reason),
        ]
    )


def masked_tokens(tokens: Sequence[int], trained: Sequence[bool]) -> Trajectory:
    """Return tokens that were not sampled as a trajectory whose loss covers the tokens with a true `trained`.

    The tokens before the first of these are the prompt.
    """
    segments: list[Segment] = []
    for learns, run in groupby(zip(tokens, trained, strict=True), key=lambda pair: bool(pair[1])):
        context: SegmentKind = "observed" if segments else "prompt"
        segments.append(Segment("sampled" if learns else context, [token for token, _ in run]))
    return Trajectory(segments)


_EPISODES = msgspec.msgpack.Decoder(list[Episode])


def encode_episodes(episodes: Sequence[Episode]) -> bytes:
    """Encode a group's episodes as MessagePack."""
    return msgspec.msgpack.encode(list(episodes))


def decode_episodes(payload: bytes) -> list[Episode]:
    """Decode the episodes of a group, as `encode_episodes` encodes them."""
    return _EPISODES.decode(payload)
