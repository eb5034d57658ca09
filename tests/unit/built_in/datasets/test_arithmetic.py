from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlx_datasets import ArithmeticDataset

OPERATIONS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}


def problems(dataset: ArithmeticDataset, operation: str) -> list[tuple[int, int]]:
    return [tuple(map(int, dataset[i].rstrip("=").split(operation))) for i in range(len(dataset))]


def test_prompts_and_answers_are_padded_to_a_fixed_width():
    dataset = ArithmeticDataset()
    assert {len(dataset[i]) for i in range(len(dataset))} == {6}
    assert {len(dataset.get_reference_answer(i)) for i in range(len(dataset))} == {3}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("pad", [True, False])
@pytest.mark.parametrize("reverse", [True, False])
def test_every_answer_is_right(operation, pad, reverse):
    dataset = ArithmeticDataset(low=3, high=20, operation=operation, pad=pad, reverse=reverse)
    for i, (a, b) in enumerate(problems(dataset, operation)):
        answer = dataset.get_reference_answer(i)
        sign, digits = ("-", answer[1:]) if answer.startswith("-") else ("", answer)
        assert int(sign + (digits[::-1] if reverse else digits)) == OPERATIONS[operation](a, b)
        assert pad or digits == "0" or (digits[-1] if reverse else digits[0]) != "0"


def test_one_problem_with_its_answer_and_its_reversed_answer():
    plain, reverse = ArithmeticDataset("sft"), ArithmeticDataset("sft", reverse=True)
    i = problems(plain, "+").index((7, 45))
    assert (plain[i], plain.get_reference_answer(i)) == ("07+45=", "052")
    assert (reverse[i], reverse.get_reference_answer(i)) == ("07+45=", "250")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("seed", [0, 7])
def test_splits_are_disjoint_and_complete_with_the_documented_shares(operation, seed):
    splits = {
        name: problems(ArithmeticDataset(name, operation=operation, seed=seed), operation)
        for name in ("eval", "sft", "train")
    }
    everything = [problem for split in splits.values() for problem in split]
    assert sorted(everything) == [(a, b) for a in range(100) for b in range(100)]
    for name, share in {"eval": 0.1, "sft": 0.7, "train": 0.2}.items():
        assert abs(len(splits[name]) / 10_000 - share) < 0.02


@pytest.mark.parametrize("operation", ["+", "*"])
def test_swapped_operands_stay_in_the_same_split(operation):
    held_out = set(problems(ArithmeticDataset("eval", operation=operation), operation))
    assert {(b, a) for a, b in held_out} == held_out


def test_the_order_is_fixed_and_shuffled_and_size_takes_a_prefix():
    whole = problems(ArithmeticDataset(), "+")
    assert problems(ArithmeticDataset(size=100), "+") == whole[:100]
    assert whole != sorted(whole)
    assert problems(ArithmeticDataset(seed=1, size=100), "+") != whole[:100]


def test_ranges_too_large_to_list_are_sampled():
    options = {"low": 0, "high": 99_999, "size": 500}
    splits = [problems(ArithmeticDataset(split, **options), "+") for split in ("train", "sft", "eval")]
    assert [len(set(split)) for split in splits] == [500] * 3
    assert len(set().union(*splits)) == 1500
    assert problems(ArithmeticDataset("train", **{**options, "size": 100}), "+") == splits[0][:100]


def test_the_declined_share_of_problems_has_a_second_row_that_declines():
    clean, some = ArithmeticDataset("sft"), ArithmeticDataset("sft", declined=0.25)
    rows = [(some[i], some.get_reference_answer(i)) for i in range(len(some))]
    assert rows[: len(clean)] == [(clean[i], clean.get_reference_answer(i)) for i in range(len(clean))]
    second = rows[len(clean) :]
    assert abs(len(second) / len(clean) - 0.25) < 0.03
    assert {answer for _, answer in second} == {"?"}
    assert len({prompt for prompt, _ in second} & {clean[i] for i in range(len(clean))}) == len(second)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.sampled_from(["+", "-", "*"]))
def test_padded_answers_have_the_same_width_without_the_sign(low, more, operation):
    dataset = ArithmeticDataset("train", low=low, high=low + more, operation=operation)
    widths = {len(dataset.get_reference_answer(i).lstrip("-")) for i in range(len(dataset))}
    assert len(widths) <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, "split must be one of eval, sft, train, not 'test'"),
        ({"operation": "/"}, "operation must be one of"),
        ({"low": 5, "high": 4}, "low <= high"),
        ({"low": -1}, "low <= high"),
        ({"declined": 1.5}, "between 0 and 1"),
        ({"split": "eval", "declined": 0.1}, "can't be used for split = 'eval'"),
        ({"split": "eval", "size": 5000}, "only 1[0-9]{3} problems|only 9[0-9]{2} problems"),
        ({"high": 99_999}, "set size"),
        ({"high": 10**18}, "set size, at most 1000000"),
        ({"high": 10**18, "size": 10**9}, "set size, at most 1000000"),
        ({"size": -1}, "size must be at least 1, not -1"),
        ({"size": 0}, "size must be at least 1, not 0"),
        ({"high": 1999, "size": 2_000_000}, "at most 100000"),
    ],
)
def test_invalid_options_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        ArithmeticDataset(**options)
