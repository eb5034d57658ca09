from __future__ import annotations

import pytest

from rlx_rewards import single_choice_reward_fn


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("<answer>B</answer>", "B", 1.0),
        ("<think>A or B?</think>\n\n<answer>B</answer>", "B", 1.0),
        ("<answer> b\n</answer>", "B", 1.0),
        ("<answer>B</answer>", " b ", 1.0),
        ("<answer>C</answer>", "B", 0.0),
        ("B", "B", 1.0),
        (" b.\n", "B", 1.0),
        ("(B)", "B", 1.0),
        ("<answer>(B)</answer>", "B", 1.0),
        ("<answer>B.</answer>", "B", 1.0),
        ("<answer>B)</answer>", "B", 1.0),
        ("<answer>**B**</answer>", "B", 1.0),
        ("<answer>$B$</answer>", "B", 1.0),
        ("<answer>B</answer>", "(B)", 1.0),
        ("<answer>B</answer>", "<answer>B</answer>", 1.0),
        ("<answer>2</answer>", 2, 1.0),
        ("<answer>Paris</answer>", "paris", 1.0),
        # the last one counts
        ("I write <answer>A</answer> or so. <answer>B</answer>", "B", 1.0),
        ("<answer>B</answer><answer>A</answer>", "B", 0.0),
        ("<answer> like <answer>B</answer>", "B", 1.0),
        ("<answer>B</answer> <answer>A", "B", 1.0),
        # wrong: more than the option, or no option
        ("<answer>B or C</answer>", "B", 0.0),
        ("<answer>B. Paris</answer>", "B", 0.0),
        ("<answer>AB</answer>", "B", 0.0),
        ("The answer is B", "B", 0.0),
        ("<answer>B", "B", 0.0),
        ("<answer></answer>", "B", 0.0),
        ("<answer>.</answer>", "B", 0.0),
        ("", "B", 0.0),
    ],
)
def test_scores_of_single_choice(text, reference, expected):
    assert single_choice_reward_fn(text, reference, prompt="?") == expected


@pytest.mark.parametrize("reference", [None, "", " ", ".", "<answer></answer>"])
@pytest.mark.parametrize("text", ["<answer>B</answer>", "", "<answer></answer>"])
def test_a_reference_without_an_option_is_an_error_for_any_completion(text, reference):
    with pytest.raises(ValueError, match="this row's has no option"):
        single_choice_reward_fn(text, reference)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["<answer>", "</answer>", " ", "<"])
def test_scoring_time_is_bounded_for_long_completions(piece):
    assert single_choice_reward_fn(piece * 50_000, "B") == 0.0
