from __future__ import annotations

import pytest

from rlx_rewards import exact_match_reward_fn


@pytest.mark.parametrize(
    ("text", "reference", "options", "expected"),
    [
        ("250", "250", {}, 1.0),
        (" 250\n", "250", {}, 1.0),
        ("250", " 250 ", {}, 1.0),
        ("250", 250, {}, 1.0),
        ("0250", "250", {}, 0.0),
        ("250 and more", "250", {}, 0.0),
        ("", "250", {}, 0.0),
        ("", "", {}, 1.0),
        ("Paris", "paris", {}, 0.0),
        ("Paris", "paris", {"ignore_case": True}, 1.0),
        ("x <answer>7</answer>", "7", {"pattern": r"<answer>(.*?)</answer>"}, 1.0),
        ("<answer>1</answer><answer>7</answer>", "7", {"pattern": r"<answer>(.*?)</answer>"}, 1.0),
        ("<answer>7</answer><answer>1</answer>", "7", {"pattern": r"<answer>(.*?)</answer>"}, 0.0),
        ("it is 7.", "7", {"pattern": r"\d+"}, 1.0),
        ("no number", "7", {"pattern": r"\d+"}, 0.0),
        ("no number", "", {"pattern": r"\d+"}, 0.0),
        ("no number", "None", {"pattern": r"\d+"}, 0.0),
    ],
)
def test_scores_of_exact_match(text, reference, options, expected):
    assert exact_match_reward_fn(text, reference, prompt="?", **options) == expected


def test_a_missing_reference_is_an_error_and_not_zero():
    for missing in (None, float("nan")):
        with pytest.raises(ValueError, match="this row has none"):
            exact_match_reward_fn(str(missing), missing)
