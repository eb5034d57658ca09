from __future__ import annotations

import threading
import time

import pytest

from rlx_rewards import math_reward_fn


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("\\boxed{42}", "42", 1.0),
        ("\\boxed{42}", 42, 1.0),
        ("\\boxed{42}", "$42$", 1.0),
        ("\\boxed{42}", "so it is \\boxed{42}", 1.0),
        ("\\boxed{43}", "42", 0.0),
        ("The answer is 42.", "42", 1.0),
        ("The answer is $42$", "42", 1.0),
        ("\\boxed{42.0}", "42", 1.0),
        ("\\boxed{42.}", "42", 1.0),
        ("\\boxed{42}", "42.", 1.0),
        ("\\fbox{42}", "42", 1.0),
        ("**Answer:** 42", "42", 1.0),
        ("**42**", "42", 1.0),
        ("$42", "42", 1.0),
        ("\\boxed{\\$42}", "42", 1.0),
        ("\\boxed{50\\%}", "50", 1.0),
        ("\\boxed{42 \\text{ km}}", "42", 1.0),
        ("\\boxed{42}", "42 km", 1.0),
        ("\\boxed{42}", "x = 42", 1.0),
        ("41 or 42", "42", 0.0),
        ("42 or 41", "42", 0.0),
        ("\\boxed{41 or 42}", "42", 0.0),
        ("\\boxed{1,000}", "1000", 1.0),
        ("\\boxed{1000}", "1,000", 1.0),
        ("\\boxed{\\dfrac{1}{2}}", "\\frac{1}{2}", 1.0),
        ("\\boxed{\\dfrac12}", "\\frac{1}{2}", 1.0),
        ("\\boxed{0.5}", "\\frac{1}{2}", 1.0),
        ("\\boxed{\\frac{1}{2}}", "0.5", 1.0),
        ("\\boxed{x = 5}", "5", 1.0),
        ("\\boxed{2\\sqrt{2}}", "\\sqrt{8}", 1.0),
        ("\\boxed{(x+1)^2}", "x^2+2x+1", 1.0),
        ("\\boxed{(1, 2)}", "(1,2)", 1.0),
        ("\\boxed{(2, 1)}", "(1,2)", 0.0),
        ("\\boxed{\\text{even}}", "\\text{even}", 1.0),
        ("\\boxed{41} no, \\boxed{42}", "42", 1.0),
        ("\\boxed{42} no, \\boxed{41}", "42", 0.0),
        ("\\boxed{41}, though $42$", "42", 0.0),
        ("\\boxed{42}, and \\boxed{unfinished", "42", 1.0),
        ("\\boxed{}", "42", 0.0),
        ("", "42", 0.0),
        ("no idea", "42", 0.0),
        ("\\boxed{[INVALID]}", "42", 0.0),
        ("no marker", "[INVALID]", 0.0),
        ("", "[INVALID]", 0.0),
        ("\\boxed{" + "1" * 5000 + "}", "42", 0.0),
    ],
)
def test_scores_of_math(text, reference, expected):
    assert math_reward_fn(text, reference, prompt="?") == expected


@pytest.mark.parametrize(("reference", "message"), [(None, "this row has none"), ("", "can't be read")])
def test_an_unreadable_reference_is_an_error(reference, message):
    with pytest.raises(ValueError, match=message):
        math_reward_fn("\\boxed{42}", reference)


def test_works_outside_the_main_thread():
    seen: list[float] = []
    thread = threading.Thread(target=lambda: seen.extend([math_reward_fn("$42$", "42"), math_reward_fn("$41$", "42")]))
    thread.start()
    thread.join()
    assert seen == [1.0, 0.0]


def test_a_huge_expression_scores_zero_within_the_time_limit():
    began = time.monotonic()
    assert math_reward_fn("\\boxed{9^{9^{9^{9}}} + \\sin(9^{9^{9}})}", "42", seconds=1) == 0.0
    assert time.monotonic() - began < 8
