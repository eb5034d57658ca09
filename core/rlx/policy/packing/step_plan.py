"""From episodes to micro-batches: every rank computes the same plan, without communication.

Rules:

* Every rank plans the whole step from the same episodes, and keeps its own share. Only that share depends on the rank.
* All ranks get the same number of micro-batches, and those that execute at the same time are of similar work: FSDP's
  collectives make the ranks wait for each other in each of them.
* Packed: a micro-batch is one row of real tokens. A prompt with which several trajectories of a group begin is in it
  once. Padded: a micro-batch is sequences of similar length, padded on the right.
* The budget bounds memory (`cuts.py`): a group with a long prompt is cut into several micro-batches, each with the
  prompt. A sequence longer than the budget gets a micro-batch of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rlx.algorithms.base import StepTotals
from rlx.episodes import Episode, Trajectory
from rlx.policy.packing.batch import MicroBatch, RowLayout, StepPlan
from rlx.policy.packing.cuts import Shape, attention_tokens_of, balanced_cuts, work_of
from rlx.policy.packing.packed_attention import varlen_layout

ATTENTION_TOKENS = attention_tokens_of(4096)
"""Of a model whose hidden size isn't known."""
_NOT_SAMPLED = float("nan")


@dataclass(frozen=True)
class TokenSequence:
    """One trajectory, or a sequence to score, as flat lists.

    trained: indices into `tokens`; never 0, as nothing predicts the first token of a sequence. sampler_logprobs: one
    for each of `trained`. prompt_group: sequences of one prompt group begin with the same `prefix` tokens.
    """

    tokens: list[int]
    trained: list[int]
    sampler_logprobs: list[float]
    advantage: float
    episode: int
    prompt_group: int
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
    attention_tokens: int = ATTENTION_TOKENS,
) -> StepPlan:
    """Return the micro-batches of `rank` in the step that trains `groups`.

    advantages: one number for each episode of each group. max_tokens: memory of one micro-batch, in positions (padding
    included). attention_tokens: see `cuts.py`.
    Trajectories without a trained token are left out. Raises ValueError if a segment doesn't have as many logprobs as
    tokens.
    """
    sequences = _step_sequences(groups, advantages)
    return plan_sequences(
        sequences,
        ranks=ranks,
        rank=rank,
        max_tokens=max_tokens,
        packing=packing,
        attention_tokens=attention_tokens,
    )


def score_plan(
    sequences: Sequence[Sequence[int]],
    *,
    ranks: int = 1,
    rank: int = 0,
    max_tokens: int,
    packing: bool,
    attention_tokens: int = ATTENTION_TOKENS,
) -> StepPlan:
    """Return micro-batches that score every token but the first of each sequence.

    `MicroBatch.episode` is the sequence's index.
    """
    scored = [
        TokenSequence(
            list(tokens), list(range(1, len(tokens))), [_NOT_SAMPLED] * (len(tokens) - 1), 0.0, index, index, 0
        )
        for index, tokens in enumerate(sequences)
        if len(tokens) > 1
    ]
    return plan_sequences(
        scored, ranks=ranks, rank=rank, max_tokens=max_tokens, packing=packing, attention_tokens=attention_tokens
    )


def plan_sequences(
    sequences: list[TokenSequence],
    *,
    ranks: int,
    rank: int,
    max_tokens: int,
    packing: bool,
    attention_tokens: int = ATTENTION_TOKENS,
) -> StepPlan:
    """Return the micro-batches of `rank` for these sequences; arguments as for `plan_step`."""
    order = sorted(sequences, key=lambda sequence: sequence.prompt_group if packing else -len(sequence))
    shapes = [Shape(len(sequence), sequence.prefix, sequence.prompt_group) for sequence in order]
    cuts = balanced_cuts(shapes, ranks=ranks, max_tokens=max_tokens, packing=packing, attention_tokens=attention_tokens)

    def work(cut: range) -> int:
        return work_of(shapes[cut.start : cut.stop], packing=packing, attention_tokens=attention_tokens)

    # Ranks compute the batches of a round at the same time: rounds of similar work have the least waiting.
    cuts.sort(key=work, reverse=True)
    batches = [order[cut.start : cut.stop] for cut in cuts]
    # Ranks without a sequence left get empty batches.
    batches += [[] for _ in range(max(-len(batches) % ranks, ranks - len(batches)))]
    build = _packed_rows if packing else _padded_rows
    totals = StepTotals(
        tokens=sum(len(sequence.trained) for sequence in sequences),
        episodes=len({sequence.episode for sequence in sequences}),
    )
    return StepPlan([build(batch) for batch in batches[rank::ranks]], totals)


def _step_sequences(groups: Sequence[Sequence[Episode]], advantages: Sequence[Sequence[float]]) -> list[TokenSequence]:
    """Return the trajectories that have a trained token; those of a group with equal prompts get one prompt group."""
    sequences: list[TokenSequence] = []
    prompt_groups: dict[tuple[int, tuple[int, ...]], int] = {}
    episode_index = 0
    for group_index, (group, group_advantages) in enumerate(zip(groups, advantages, strict=True)):
        for episode, advantage in zip(group, group_advantages, strict=True):
            for trajectory in episode.trajectories:
                first = trajectory.segments[0] if trajectory.segments else None
                prompt = first.tokens if first is not None and first.kind == "prompt" else []
                prompt_group = prompt_groups.setdefault((group_index, tuple(prompt)), len(prompt_groups))
                sequence = _token_sequence(trajectory, advantage, episode_index, prompt_group, len(prompt))
                if sequence.trained:
                    sequences.append(sequence)
            episode_index += 1
    return sequences


def _token_sequence(
    trajectory: Trajectory, advantage: float, episode: int, prompt_group: int, prefix: int
) -> TokenSequence:
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
    return TokenSequence(tokens, trained, logprobs, advantage, episode, prompt_group, prefix)


def _packed_rows(batch: list[TokenSequence]) -> MicroBatch:
    """Return one row: for each prompt group its prefix, then the rest of each of its sequences."""
    tokens: list[int] = []
    position_ids: list[int] = []
    paths: list[list[int]] = []
    prefixes: dict[int, list[int]] = {}
    for sequence in batch:
        if sequence.prompt_group not in prefixes:
            prefixes[sequence.prompt_group] = list(range(len(tokens), len(tokens) + sequence.prefix))
            tokens += sequence.tokens[: sequence.prefix]
            position_ids += range(sequence.prefix)
        own = range(len(tokens), len(tokens) + len(sequence) - sequence.prefix)
        paths.append([*prefixes[sequence.prompt_group], *own])
        tokens += sequence.tokens[sequence.prefix :]
        position_ids += range(sequence.prefix, len(sequence))
    return _micro_batch(batch, [tokens or [0]], [position_ids or [0]], paths, varlen_layout(paths or [[0]]))


def _padded_rows(batch: list[TokenSequence]) -> MicroBatch:
    """Return one row for each sequence, as long as the longest."""
    length = max(map(len, batch), default=1)
    rows = [sequence.tokens + [0] * (length - len(sequence)) for sequence in batch] or [[0]]
    paths = [list(range(row * length, (row + 1) * length)) for row in range(len(batch))]
    return _micro_batch(batch, rows, [list(range(length))] * len(rows), paths, None)


def _micro_batch(
    batch: list[TokenSequence],
    tokens: list[list[int]],
    position_ids: list[list[int]],
    paths: list[list[int]],
    layout: RowLayout | None,
) -> MicroBatch:
    """Return a micro-batch of these rows. paths: for each sequence, the positions of its tokens."""
    trained = [
        (sequence, path, index) for sequence, path in zip(batch, paths, strict=True) for index in sequence.trained
    ]
    return MicroBatch(
        tokens=torch.tensor(tokens),
        position_ids=torch.tensor(position_ids),
        layout=layout,
        logit_positions=_integers([path[index - 1] for _, path, index in trained]),
        targets=_integers([sequence.tokens[index] for sequence, _, index in trained]),
        sampler_logprobs=_floats([logprob for sequence in batch for logprob in sequence.sampler_logprobs]),
        advantages=_floats([sequence.advantage for sequence, _, _ in trained]),
        episode=_integers([sequence.episode for sequence, _, _ in trained]),
    )


def _integers(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def _floats(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)
