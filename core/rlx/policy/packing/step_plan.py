"""From episodes to micro-batches: the same plan on every rank, without a word between them.

The rules of this part:

* Every rank plans the whole step from the same episodes and keeps its own share. Nothing but that share depends on the
  rank.
* All ranks get the same number of micro-batches, and those that run at the same time are of similar size: in each,
  FSDP's collectives make the ranks wait for one another.
* Packed: a micro-batch is one row of real tokens. A prompt that several trajectories of a group begin with stands there
  once. Padded: a micro-batch is sequences of similar length, filled up on the right.
* A sequence longer than the token budget gets a micro-batch of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from rlx.algorithms.base import StepTotals
from rlx.episodes import Episode, Trajectory
from rlx.policy.packing.batch import Layout, MicroBatch, StepPlan
from rlx.policy.packing.packed_attention import varlen_layout

_NOT_SAMPLED = float("nan")


@dataclass(frozen=True)
class TokenSequence:
    """One trajectory as numbers.

    trained: indices into `tokens`; 0 is never among them, as nothing predicts the first token of a sequence.
    sampler_logprobs: one for each of `trained`.
    family: sequences of one family begin with the same `prefix` tokens.
    """

    tokens: list[int]
    trained: list[int]
    sampler_logprobs: list[float]
    advantage: float
    episode: int
    family: int
    prefix: int

    def __len__(self) -> int:
        return len(self.tokens)


def plan_step(
    groups: Sequence[Sequence[Episode]],
    advantages: Sequence[Sequence[float]],
    *,
    ranks: int,
    rank: int,
    max_tokens: int,
    packing: bool,
) -> StepPlan:
    """The micro-batches of `rank` in the step that trains `groups`.

    advantages: one number for each episode of each group. max_tokens: token slots (padding included) of one
    micro-batch. Trajectories without a trained token are left out. Raises ValueError where a segment's logprobs do not
    fit its tokens.
    """
    sequences = _step_sequences(groups, advantages)
    return plan_sequences(sequences, ranks=ranks, rank=rank, max_tokens=max_tokens, packing=packing)


def score_plan(
    sequences: Sequence[Sequence[int]], *, ranks: int = 1, rank: int = 0, max_tokens: int, packing: bool
) -> StepPlan:
    """Micro-batches that score every token but the first of each sequence. `MicroBatch.episode` is the sequence's
    index.
    """
    rows = [
        TokenSequence(
            list(tokens), list(range(1, len(tokens))), [_NOT_SAMPLED] * (len(tokens) - 1), 0.0, index, index, 0
        )
        for index, tokens in enumerate(sequences)
        if len(tokens) > 1
    ]
    return plan_sequences(rows, ranks=ranks, rank=rank, max_tokens=max_tokens, packing=packing)


def _step_sequences(groups: Sequence[Sequence[Episode]], advantages: Sequence[Sequence[float]]) -> list[TokenSequence]:
    sequences: list[TokenSequence] = []
    families: dict[tuple[int, tuple[int, ...]], int] = {}
    episode_index = 0
    for group_index, (group, group_advantages) in enumerate(zip(groups, advantages, strict=True)):
        for episode, advantage in zip(group, group_advantages, strict=True):
            for trajectory in episode.trajectories:
                prompt = _prompt(trajectory)
                family = families.setdefault((group_index, tuple(prompt)), len(families))
                sequence = _sequence(trajectory, advantage, episode_index, family, len(prompt))
                if sequence.trained:
                    sequences.append(sequence)
            episode_index += 1
    return sequences


def _prompt(trajectory: Trajectory) -> list[int]:
    first = trajectory.segments[0] if trajectory.segments else None
    return first.tokens if first is not None and first.kind == "prompt" else []


def _sequence(trajectory: Trajectory, advantage: float, episode: int, family: int, prefix: int) -> TokenSequence:
    tokens: list[int] = []
    trained: list[int] = []
    logprobs: list[float] = []
    for segment in trajectory.segments:
        if segment.learns:
            if segment.logprobs and len(segment.logprobs) != len(segment.tokens):
                raise ValueError(
                    f"a sampled segment has {len(segment.tokens)} tokens but {len(segment.logprobs)} logprobs"
                )
            unpredicted = 0 if tokens else 1
            trained += range(len(tokens) + unpredicted, len(tokens) + len(segment.tokens))
            logprobs += (segment.logprobs or [_NOT_SAMPLED] * len(segment.tokens))[unpredicted:]
        tokens += segment.tokens
    return TokenSequence(tokens, trained, logprobs, advantage, episode, family, prefix)


def plan_sequences(
    sequences: list[TokenSequence], *, ranks: int, rank: int, max_tokens: int, packing: bool
) -> StepPlan:
    order = _by_family(sequences) if packing else sorted(sequences, key=len, reverse=True)
    cost = _packed_cost if packing else _padded_cost
    parts = sorted(_balanced(order, ranks, max_tokens, packing), key=cost, reverse=True)
    parts += [[] for _ in range(max(-len(parts) % ranks, ranks - len(parts)))]
    build = _packed if packing else _padded
    totals = StepTotals(
        tokens=sum(len(sequence.trained) for sequence in sequences),
        episodes=len({sequence.episode for sequence in sequences}),
    )
    return StepPlan([build(part) for part in parts[rank::ranks]], totals)


def _by_family(sequences: list[TokenSequence]) -> list[TokenSequence]:
    return sorted(sequences, key=lambda sequence: sequence.family)


def _balanced(order: list[TokenSequence], ranks: int, max_tokens: int, packing: bool) -> list[list[TokenSequence]]:
    """`order` cut into runs that fit the budget: as few as there can be, rounded up to whole rounds of ranks, and then
    the smallest cap on a run's cost that does with so many.
    """
    allowed = -(-len(_cut(order, max_tokens, packing)) // ranks) * ranks
    low, high = 1, max_tokens
    while low < high:
        middle = (low + high) // 2
        if len(_cut(order, middle, packing)) <= allowed:
            high = middle
        else:
            low = middle + 1
    return _cut(order, high, packing)


def _cut(order: list[TokenSequence], cap: int, packing: bool) -> list[list[TokenSequence]]:
    """Runs of at most `cap` slots each; a single sequence may exceed it."""
    runs: list[list[TokenSequence]] = []
    slots = 0
    for sequence in order:
        added = _added_slots(runs[-1], sequence, packing) if runs else 0
        if runs and slots + added <= cap:
            runs[-1].append(sequence)
            slots += added
        else:
            runs.append([sequence])
            slots = len(sequence)
    return runs


def _added_slots(run: list[TokenSequence], sequence: TokenSequence, packing: bool) -> int:
    """Slots that `sequence` adds to a run in planning order: families together (packed), longest first (padded)."""
    if not packing:
        return len(run[0])
    return len(sequence) - (sequence.prefix if run[-1].family == sequence.family else 0)


def _packed_cost(part: list[TokenSequence]) -> int:
    prefixes = {sequence.family: sequence.prefix for sequence in part}
    return sum(prefixes.values()) + sum(len(sequence) - sequence.prefix for sequence in part)


def _padded_cost(part: list[TokenSequence]) -> int:
    return len(part) * max(map(len, part), default=0)


def _packed(part: list[TokenSequence]) -> MicroBatch:
    """One row: for each family its prefix, then the rest of each of its sequences."""
    tokens: list[int] = []
    positions: list[int] = []
    paths: list[list[int]] = []
    prefix_slots: dict[int, list[int]] = {}
    for sequence in part:
        if sequence.family not in prefix_slots:
            prefix_slots[sequence.family] = list(range(len(tokens), len(tokens) + sequence.prefix))
            tokens += sequence.tokens[: sequence.prefix]
            positions += range(sequence.prefix)
        own = range(len(tokens), len(tokens) + len(sequence) - sequence.prefix)
        paths.append([*prefix_slots[sequence.family], *own])
        tokens += sequence.tokens[sequence.prefix :]
        positions += range(sequence.prefix, len(sequence))
    return _micro_batch(part, [tokens or [0]], [positions or [0]], paths, varlen_layout(paths or [[0]]))


def _padded(part: list[TokenSequence]) -> MicroBatch:
    width = max(map(len, part), default=1)
    rows = [sequence.tokens + [0] * (width - len(sequence)) for sequence in part] or [[0]]
    paths = [list(range(row * width, (row + 1) * width)) for row in range(len(part))]
    return _micro_batch(part, rows, [list(range(width))] * len(rows), paths, None)


def _micro_batch(
    part: list[TokenSequence],
    tokens: list[list[int]],
    positions: list[list[int]],
    paths: list[list[int]],
    layout: Layout | None,
) -> MicroBatch:
    """`paths`: for each sequence of `part`, the slots that its tokens lie in."""

    def trained() -> Iterator[tuple[TokenSequence, list[int], int]]:
        for sequence, path in zip(part, paths, strict=True):
            for index in sequence.trained:
                yield sequence, path, index

    return MicroBatch(
        tokens=torch.tensor(tokens),
        positions=torch.tensor(positions),
        layout=layout,
        slots=_integers([path[index - 1] for _, path, index in trained()]),
        targets=_integers([sequence.tokens[index] for sequence, _, index in trained()]),
        sampler_logprobs=_floats([logprob for sequence in part for logprob in sequence.sampler_logprobs]),
        advantages=_floats([sequence.advantage for sequence, _, _ in trained()]),
        episode=_integers([sequence.episode for sequence, _, _ in trained()]),
    )


def _integers(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def _floats(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)
