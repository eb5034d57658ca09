from __future__ import annotations

import pytest

from rlx_rewards import countdown_reward_fn

PROBLEM = {"numbers": [3, 7, 25], "target": 46}


def score_answer(answer, numbers=(3, 7, 25), target=46):
    return countdown_reward_fn(
        f"<think>Hm.</think> <answer>{answer}</answer>", {"numbers": [*numbers], "target": target}
    )


@pytest.mark.parametrize(
    "answer",
    [
        "7*3+25",
        " 25 + 7 * 3 ",
        "(25 + (7 * 3))",
        "25\n+ 7*3",
        "25 + 7 * 3 = 46",
        "25 + 7 \u00d7 3",
        "25 - -7*3",
        "+25+7*3",
    ],
)
def test_right_expressions_score_one(answer):
    assert score_answer(answer) == 1.0


@pytest.mark.parametrize(
    ("numbers", "target", "answer"),
    [
        ((7, 3, 3), 7, "7 / 3 * 3"),
        ((8, 3, 8, 3), 24, "8 / (3 - 8 / 3)"),
        ((2, 3), 1, "-2 + 3"),
        ((2, 3), 1, "3 \u2212 2"),
        ((8, 4), 2, "8 \u00f7 4"),
        ((5, 5), 10, "5 + 5"),
    ],
)
def test_fractions_signs_and_repeated_numbers(numbers, target, answer):
    assert score_answer(answer, numbers, target) == 1.0


@pytest.mark.parametrize(
    "answer",
    [
        "46",
        "25 + 3 + 7",
        "25 + 7 * 3 = 47",
        "25 + 7 * 3 = 46 = 46",
        "21 + 25",
        "25 + 7 + 7 + 7",
        "25 + 7 * 3 * 1",
        "(25 + 7 * 3",
        "25 + 7 * 3)",
        "257 - 3",
        "",
        "25 + 7 x 3",
        "twenty-five + 7 * 3",
        "25.0 + 7 * 3",
        "25 + 07 * 3",
        "2_5 + 7 * 3",
        "25, 7 * 3",
        "25 // 7 * 3",
        "3(7) + 25",
        "25 + 7 * \u0663",
    ],
)
def test_wrong_expressions_score_zero(answer):
    assert score_answer(answer) == 0.0


@pytest.mark.parametrize(
    "answer", ["3 ** 7", "3 % 7", "3 << 7", "3 and 7", "[3, 7]", "3 if 7 else 0", "f(3, 7)", "9**9**9**9"]
)
def test_only_the_four_operations_are_allowed(answer):
    assert score_answer(answer, (3, 7), 3) == 0.0


@pytest.mark.parametrize("answer", ["__import__('os').abort()", "exit()", "(" * 5000, "-" * 5000 + "3", "9" * 100_000])
def test_hostile_answers_are_not_executed_and_do_not_exhaust_the_parser(answer):
    assert score_answer(answer) == 0.0


@pytest.mark.parametrize("depth", [1, 90, 150])
def test_deeply_nested_expressions_are_parsed(depth):
    assert score_answer("(" * depth + "25 + 7 * 3" + ")" * depth) == 1.0
    assert score_answer("(" * 199 + "25 + 7 * 3" + ")" * 199) == 0.0  # too deep for Python's own parser
    assert score_answer("-" * 2 * depth + "25 + 7 * 3") == 1.0


def test_division_by_zero_scores_zero():
    assert score_answer("3 / (7 - 7)", (3, 7, 7), 0) == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<answer>1</answer> <answer>7*3+25</answer>", 1.0),
        ("<answer>7*3+25</answer> <answer>1</answer>", 0.0),
        ("7*3+25", 0.0),
        ("<answer>7*3+25", 0.0),
        ("7*3+25</answer>", 0.0),
        ("</answer><answer>7*3+25", 0.0),
        ("<answer>7*3+25</answer></answer>", 1.0),
        ("<answer>7*3+25</answer> <answer>1", 1.0),
        ("<answer>no <answer>7*3+25</answer>", 1.0),
        ("", 0.0),
    ],
)
def test_the_last_complete_pair_of_tags_counts(text, expected):
    assert countdown_reward_fn(text, PROBLEM) == expected


def test_the_tag_is_an_option_and_may_be_empty():
    assert countdown_reward_fn("<result>7*3+25</result>", PROBLEM, tag="result") == 1.0
    assert countdown_reward_fn(" 7*3+25\n", PROBLEM, tag="") == 1.0


@pytest.mark.parametrize(
    "reference", [None, "46", 46, {}, {"numbers": [1]}, {"numbers": "12", "target": 3}, {"numbers": ["1"], "target": 1}]
)
def test_a_reference_that_is_not_a_problem_raises(reference):
    with pytest.raises(ValueError, match="countdown needs a reference answer like"):
        countdown_reward_fn("<answer>1</answer>", reference)
