"""Episode, trajectory, segment: what a sampler produced and a trainer learns from.

The rules of this part:

* Tokens are the source of truth. A segment's ids are what the engine read or emitted; text is never tokenised again on
  the way to the loss.
* A *segment* is a run of tokens of one kind. A *trajectory* is an append-only list of segments: every prompt that the
  engine saw is a prefix of its trajectory. An *episode* is one or more trajectories of one dataset row, with its
  rewards.
* The loss mask is `sampled and trainable`. A reward of None means "not scored", never 0.
* All of it is plain data: msgspec encodes it as MessagePack on the wire and in the ledger, or as JSON for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Literal

import msgspec

SegmentKind = Literal["prompt", "sampled", "observed"]


class VersionSpan(msgspec.Struct, frozen=True, array_like=True):
    """`length` consecutive tokens sampled with the weights of `version`."""

    version: int
    length: int


class Segment(msgspec.Struct, omit_defaults=True):
    """A run of tokens of one kind.

    `logprobs` (sampled segments only): natural-log probability of each token under the distribution that it was drawn
    from, temperature applied; as many as `tokens`. Empty where nothing was sampled (prompts, SFT targets).
    """

    kind: SegmentKind
    tokens: list[int]
    logprobs: list[float] = []
    versions: list[VersionSpan] = []
    trainable: bool = True
    finish_reason: str | None = None

    @property
    def learns(self) -> bool:
        """Whether the loss covers these tokens."""
        return self.kind == "sampled" and self.trainable


class Trajectory(msgspec.Struct):
    """An append-only list of segments."""

    segments: list[Segment]

    @property
    def tokens(self) -> list[int]:
        return [token for segment in self.segments for token in segment.tokens]

    def __len__(self) -> int:
        return sum(len(segment.tokens) for segment in self.segments)


class Reward(msgspec.Struct, omit_defaults=True):
    """What one reward said of one episode.

    `segment` anchors it to a sampled segment (trajectory index, segment index); None anchors it to the end.
    """

    name: str
    value: float | None
    weight: float = 1.0
    segment: tuple[int, int] | None = None


class Episode(msgspec.Struct, omit_defaults=True):
    """One attempt at one dataset row."""

    group_id: int
    sample: int
    dataset_index: int
    trajectories: list[Trajectory]
    text: str = ""
    prompt_text: str = ""
    rewards: list[Reward] = []
    metrics: dict[str, float] = {}
    stop_reason: str | None = None
    error: str | None = None
    seed: int = 0

    @property
    def total_reward(self) -> float | None:
        """Sum of weight * value over the rewards that scored; None where none did."""
        return total_of(self.rewards)

    def sampled_segments(self) -> Iterator[Segment]:
        """Every segment that the sampler wrote, in order."""
        for trajectory in self.trajectories:
            for segment in trajectory.segments:
                if segment.kind == "sampled":
                    yield segment

    @property
    def sampled_tokens(self) -> int:
        return sum(len(segment.tokens) for segment in self.sampled_segments())

    @property
    def oldest_version(self) -> int | None:
        """The oldest weight version among the sampled tokens; None where the sampler left none."""
        spans = [span.version for segment in self.sampled_segments() for span in segment.versions]
        return min(spans, default=None)


def total_of(rewards: Sequence[Reward]) -> float | None:
    """Sum of weight * value over those that scored; None where none did."""
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
    """A prompt and its completion: the trajectory of a single-turn episode."""
    return Trajectory(
        [
            Segment("prompt", list(prompt_tokens)),
            Segment("sampled", list(completion_tokens), list(logprobs), list(versions), finish_reason=finish_reason),
        ]
    )


def masked_tokens(tokens: Sequence[int], trained: Sequence[bool]) -> Trajectory:
    """Tokens that nobody sampled, of which some are trained; what precedes the first of those is the prompt."""
    segments: list[Segment] = []
    for learns, run in groupby(zip(tokens, trained, strict=True), key=lambda pair: bool(pair[1])):
        context: SegmentKind = "observed" if segments else "prompt"
        segments.append(Segment("sampled" if learns else context, [token for token, _ in run]))
    return Trajectory(segments)


_EPISODES = msgspec.msgpack.Decoder(list[Episode])


def encode_episodes(episodes: Sequence[Episode]) -> bytes:
    """A group's episodes as MessagePack."""
    return msgspec.msgpack.encode(list(episodes))


def decode_episodes(payload: bytes) -> list[Episode]:
    """The inverse of `encode_episodes`."""
    return _EPISODES.decode(payload)


def to_json(episode: Episode) -> dict[str, Any]:
    """An episode as plain JSON types."""
    builtins: dict[str, Any] = msgspec.to_builtins(episode)
    return builtins
