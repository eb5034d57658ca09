"""Plans of a step: which tokens each micro-batch trains, and what attention lets them see."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlx.episodes import Episode, Segment, Trajectory, single_turn
from rlx.policy.packing.batch import TokenOutputs
from rlx.policy.packing.step_plan import plan_step, score_plan

PROMPTS = st.lists(st.integers(1, 50), max_size=8)
COMPLETIONS = st.lists(st.lists(st.integers(1, 50), max_size=9), min_size=1, max_size=5)
GROUPS = st.lists(st.tuples(PROMPTS, COMPLETIONS), max_size=5)


def episodes(shapes):
    return [
        [Episode(group, i, 0, [single_turn(prompt, completion)]) for i, completion in enumerate(completions)]
        for group, (prompt, completions) in enumerate(shapes)
    ]


def all_plans(groups, *, ranks, max_tokens, packing):
    advantages = [[100.0 * i + j for j in range(len(group))] for i, group in enumerate(groups)]
    return [
        plan_step(groups, advantages, ranks=ranks, rank=rank, max_tokens=max_tokens, packing=packing)
        for rank in range(ranks)
    ]


def position_paths(micro):
    """Return, for each position, the tokens from the start of its sequence up to it, as attention sees them."""
    flat = micro.tokens.flatten().tolist()
    if micro.layout is None:
        width = micro.tokens.shape[1]
        return {position: flat[position - position % width : position + 1] for position in range(len(flat))}
    sizes = [rows * length for rows, length in micro.layout.shapes]
    buckets = [
        part.view(shape) for shape, part in zip(micro.layout.shapes, micro.layout.cells.split(sizes), strict=True)
    ]
    cells = [row.tolist()[: column + 1] for bucket in buckets for row in bucket for column in range(len(row))]
    return {
        position: [flat[seen] for seen in cells[cell]]
        for position, cell in enumerate(micro.layout.first_cells.tolist())
    }


@settings(max_examples=60, deadline=None)
@given(GROUPS, st.integers(1, 4), st.integers(1, 60), st.booleans())
def test_every_trained_token_is_planned_once_after_its_own_history(shapes, ranks, max_tokens, packing):
    groups = episodes(shapes)
    plans = all_plans(groups, ranks=ranks, max_tokens=max_tokens, packing=packing)
    assert len({len(plan.micro_batches) for plan in plans}) == 1
    assert len({plan.totals for plan in plans}) == 1
    seen = []
    for plan in plans:
        for micro in plan.micro_batches:
            paths = position_paths(micro)
            for position, target, advantage in zip(
                micro.logit_positions.tolist(), micro.targets.tolist(), micro.advantages.tolist(), strict=True
            ):
                assert int(micro.position_ids.flatten()[position]) == len(paths[position]) - 1
                seen.append((advantage, (*paths[position], target)))
    expected = [
        (100.0 * i + j, tuple([*prompt, *completion][: end + 1]))
        for i, (prompt, completions) in enumerate(shapes)
        for j, completion in enumerate(completions)
        for end in range(max(len(prompt), 1), len(prompt) + len(completion))
    ]
    assert sorted(seen) == sorted(expected)
    assert plans[0].totals.tokens == len(expected)
    assert plans[0].totals.episodes == len({advantage for advantage, _ in expected})


@settings(max_examples=60, deadline=None)
@given(GROUPS, st.integers(1, 4), st.integers(1, 60), st.booleans())
def test_only_single_sequences_exceed_the_budget(shapes, ranks, max_tokens, packing):
    for plan in all_plans(episodes(shapes), ranks=ranks, max_tokens=max_tokens, packing=packing):
        for micro in plan.micro_batches:
            assert micro.tokens.numel() <= max_tokens or len(set(micro.episode.tolist())) == 1


def test_a_packed_row_holds_a_prompt_once():
    groups = episodes([([7] * 10, [[1, 2], [3], [4, 5, 6]])])
    (plan,) = all_plans(groups, ranks=1, max_tokens=1000, packing=True)
    assert [micro.tokens.numel() for micro in plan.micro_batches] == [10 + 6]


def test_ranks_get_nearly_equal_shares():
    groups = episodes([([7] * 40, [[1] * (20 + (7 * i) % 23) for i in range(8)]) for _ in range(4)])
    shares = [
        sum(m.tokens.numel() for m in plan.micro_batches)
        for plan in all_plans(groups, ranks=2, max_tokens=8192, packing=True)
    ]
    assert max(shares) <= 1.1 * min(shares)


def test_one_group_is_spread_over_ranks():
    groups = episodes([([7] * 4, [[1] * 20] * 8)])
    shares = [
        sum(m.tokens.numel() for m in plan.micro_batches)
        for plan in all_plans(groups, ranks=2, max_tokens=8192, packing=True)
    ]
    assert shares == [84, 84]


def test_logprobs_stay_with_their_tokens():
    trajectory = Trajectory(
        [
            Segment("prompt", [1, 2]),
            Segment("sampled", [3, 4], logprobs=[-3.0, -4.0]),
            Segment("observed", [5]),
            Segment("sampled", [6], logprobs=[-6.0], trainable=False),
            Segment("sampled", [7, 8], logprobs=[-7.0, -8.0]),
        ]
    )
    (plan,) = all_plans([[Episode(0, 0, 0, [trajectory])]], ranks=1, max_tokens=100, packing=True)
    (micro,) = plan.micro_batches
    assert micro.targets.tolist() == [3, 4, 7, 8]
    assert micro.sampler_logprobs.tolist() == [-3.0, -4.0, -7.0, -8.0]
    assert micro.logit_positions.tolist() == [1, 2, 5, 6]


def test_a_token_that_was_not_sampled_counts_as_the_policys_own():
    (plan,) = all_plans(episodes([([1], [[2, 3]])]), ranks=1, max_tokens=100, packing=True)
    (micro,) = plan.micro_batches
    assert all(math.isnan(value) for value in micro.sampler_logprobs)
    logprobs = torch.tensor([-1.0, -2.0], requires_grad=True)
    batch = micro.token_batch(TokenOutputs(logprobs, logprobs.detach()))
    assert batch.sampler_logprobs.tolist() == [-1.0, -2.0]
    assert not batch.sampler_logprobs.requires_grad


def test_logprobs_of_another_length_are_refused():
    broken = Trajectory([Segment("prompt", [1]), Segment("sampled", [2, 3], logprobs=[-1.0])])
    with pytest.raises(ValueError, match="2 tokens but 1 logprobs"):
        all_plans([[Episode(0, 0, 0, [broken])]], ranks=1, max_tokens=100, packing=True)


@pytest.mark.parametrize("packing", [True, False])
def test_scores_come_back_by_sequence(packing):
    sequences = [[5, 6, 7], [8], [9, 10], [1, 2, 3, 4, 5]]
    found = {}
    for rank in range(2):
        plan = score_plan(sequences, ranks=2, rank=rank, max_tokens=6, packing=packing)
        for micro in plan.micro_batches:
            found |= micro.by_episode(micro.targets)
    assert found == {0: [6, 7], 2: [10], 3: [2, 3, 4, 5]}


def test_moving_a_micro_batch_moves_all_its_tensors():
    (plan,) = all_plans(episodes([([1, 2], [[2, 3], [4]])]), ranks=1, max_tokens=100, packing=True)
    moved = plan.micro_batches[0].to("meta")
    assert {moved.tokens.device.type, moved.layout.first_cells.device.type, moved.advantages.device.type} == {"meta"}
    assert {moved.layout.cells.device.type, moved.layout.repeated_cells.device.type} == {"meta"}
