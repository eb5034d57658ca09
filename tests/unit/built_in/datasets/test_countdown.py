from __future__ import annotations

import itertools
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlx_datasets import CountdownDataset
from rlx_rewards import countdown_reward_fn


def problems(dataset):
    return [dataset.get_reference_answer(i) for i in range(len(dataset))]


def keys(dataset):
    return {(tuple(sorted(found["numbers"])), found["target"]) for found in problems(dataset)}


def expressions(parts):
    """Yield the (text, value) of every expression that uses each part once."""
    if len(parts) == 1:
        yield parts[0]
        return
    for i, j in itertools.permutations(range(len(parts)), 2):
        rest = [part for k, part in enumerate(parts) if k not in (i, j)]
        (left, a), (right, b) = parts[i], parts[j]
        for sign, value in [("+", a + b), ("-", a - b), ("*", a * b), *([("/", a / b)] if b else [])]:
            yield from expressions([(f"({left} {sign} {right})", value), *rest])


def test_every_problem_has_a_solution_that_the_reward_accepts():
    for found in problems(CountdownDataset(size=40, max_numbers=3)):
        parts = [(str(number), Fraction(number)) for number in found["numbers"]]
        solution = next(text for text, value in expressions(parts) if value == found["target"])
        assert countdown_reward_fn(f"<answer>{solution}</answer>", found) == 1.0


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 5), st.integers(0, 2), st.integers(1, 20), st.integers(10, 40), st.sampled_from(["train", "eval"])
)
def test_numbers_and_targets_are_within_their_options(fewest, more, low, width, split):
    dataset = CountdownDataset(
        split, 5, min_numbers=fewest, max_numbers=fewest + more, low=low, high=low + width, max_target=150
    )
    for found in problems(dataset):
        assert fewest <= len(found["numbers"]) <= fewest + more
        assert all(low <= n <= low + width for n in found["numbers"])
        assert 1 <= found["target"] <= 150


@pytest.mark.parametrize("seed", [0, 1])
def test_splits_share_no_problem_even_with_different_options(seed):
    small = {"min_numbers": 3, "max_numbers": 3, "low": 1, "high": 9, "seed": seed}
    train = keys(CountdownDataset("train", 1500, **small))
    held_out = keys(CountdownDataset("eval", 150, **{**small, "max_target": 50}))
    assert not train & held_out
    assert (len(train), len(held_out)) == (1500, 150)
    other = keys(CountdownDataset("eval", 150, **{**small, "seed": seed + 5}))
    assert train & other


def test_a_smaller_size_is_a_prefix_and_another_seed_gives_other_problems():
    some, more, other = CountdownDataset(size=50), CountdownDataset(size=80), CountdownDataset(size=50, seed=1)
    assert problems(some) == problems(more)[:50]
    assert not keys(some) & keys(other)


def test_the_prompt_asks_for_the_format_that_the_reward_reads():
    dataset = CountdownDataset(size=1)
    numbers, target = dataset.get_reference_answer(0).values()
    question = f"Numbers: {', '.join(map(str, numbers))}. Target: {target}."
    system, user = dataset[0]
    assert "exactly once" in system["content"]
    assert "<answer>" in system["content"]
    assert user == {"role": "user", "content": question}
    assert CountdownDataset(size=1, chat=False)[0].endswith(f"Question: {question}\nAnswer:")
    assert CountdownDataset(size=1, instruction="")[0] == [user]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, "split must be train or eval"),
        ({"size": 0}, "size and max_target must be at least 1"),
        ({"min_numbers": 1}, "2 <= min_numbers <= max_numbers"),
        ({"low": 0}, "1 <= low <= high"),
        ({"min_numbers": 2, "max_numbers": 2, "high": 3}, "hardly more than [0-9]+ such problems"),
    ],
)
def test_invalid_options_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        CountdownDataset(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 10**9}, "size is at most 1,000,000, not 1,000,000,000"),
        ({"min_numbers": 30, "max_numbers": 30}, "max_numbers <= 8 must hold, but they are 30 and 30"),
        ({"max_numbers": 10**9}, "max_numbers <= 8 must hold"),
        ({"low": 10**17, "high": 10**18}, "only 0 of 15,000 random expressions gave a problem"),
        (
            {"min_numbers": 8, "max_numbers": 8, "low": 90, "max_target": 1},
            "random expressions gave a problem, which is too few",
        ),
        ({"low": 1, "high": 1}, "hardly more than [0-9]+ such problems"),
    ],
)
def test_work_without_an_end_is_refused_in_a_moment(options, message):
    began = time.process_time()
    with pytest.raises(ValueError, match=message):
        CountdownDataset(**options)
    assert time.process_time() - began < 2
