from __future__ import annotations

import threading

import pytest

from rlx_rewards import boxed_math_reward_fn


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("\\boxed{42}", "42", 1.0),
        ("\\boxed{42}", 42, 1.0),
        ("\\boxed{42}", "$42$", 1.0),
        ("\\boxed{42}", "\\boxed{42}", 1.0),
        ("$\\boxed{42}$.", "42", 1.0),
        ("\\boxed{42.}", "42", 1.0),
        ("\\fbox{42}", "42", 1.0),
        ("\\boxed{x = 42}", "42", 1.0),
        ("\\boxed{1,000}", "1000", 1.0),
        ("\\boxed{\\dfrac{1}{2}}", "0.5", 1.0),
        ("\\boxed{(x+1)^2}", "x^2+2x+1", 1.0),
        ("\\boxed{\\text{even}}", "even", 1.0),
        ("\\boxed{41} no, \\boxed{42}", "42", 1.0),
        ("\\boxed{42} no, \\boxed{41}", "42", 0.0),
        ("\\boxed{42}, and \\boxed{unfinished", "42", 1.0),
        ("\\boxed{43}", "42", 0.0),
        ("\\boxed{41 or 42}", "42", 0.0),
        ("\\boxed{41, 42}", "42", 0.0),
        # right, but without a complete box
        ("The answer is 42", "42", 0.0),
        ("The answer is $42$", "42", 0.0),
        ("41 or 42", "42", 0.0),
        ("\\boxed{42", "42", 0.0),
        ("\\boxed 42", "42", 0.0),
        ("\\boxed{}", "42", 0.0),
        ("", "42", 0.0),
        ("no box on either side", "\\text{none}", 0.0),
    ],
)
def test_scores_of_boxed_math(text, reference, expected):
    assert boxed_math_reward_fn(text, reference, prompt="?") == expected


@pytest.mark.parametrize(("reference", "message"), [(None, "this row has none"), ("", "can't be read")])
@pytest.mark.parametrize("text", ["\\boxed{42}", "no box"])
def test_an_unreadable_reference_is_an_error_for_any_completion(text, reference, message):
    with pytest.raises(ValueError, match=message):
        boxed_math_reward_fn(text, reference)


def test_works_outside_the_main_thread():
    seen: list[float] = []
    texts = ("\\boxed{42}", "\\boxed{41}", "42")
    thread = threading.Thread(target=lambda: seen.extend(boxed_math_reward_fn(text, "42") for text in texts))
    thread.start()
    thread.join()
    assert seen == [1.0, 0.0, 0.0]


def test_a_huge_expression_scores_zero_and_terminates():
    assert boxed_math_reward_fn("\\boxed{9^{9^{9^{9}}} + \\sin(9^{9^{9}})}", "42", seconds=1) == 0.0
