from __future__ import annotations

import pytest

from rlx_rewards.latex import last_boxed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\\boxed{a{b}c} x", "a{b}c"),
        ("\\boxed{1}\\boxed{2}", "2"),
        ("\\boxed{1} \\boxed{2", "1"),
        ("\\boxed{\\boxed{3}}", "3"),
        ("{ \\boxed{1} \\boxed{2", "1"),
        ("} \\boxed{1} }", "1"),
        ("\\boxed {1}", "1"),
        ("\\fbox{1}", "1"),
        ("\\boxed{\\left\\{ 1 \\right.}", "\\left\\{ 1 \\right."),
        ("\\boxed{(0, 1\\}}", "(0, 1\\}"),
        ("x \\\\{\\boxed{1}}", "1"),
        ("\\boxed{}", ""),
        ("\\boxed{", None),
        ("\\boxed 1", None),
        ("boxed{1}", None),
        ("none", None),
    ],
)
def test_last_boxed(text, expected):
    assert last_boxed(text) == expected


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["\\boxed{", "{", "}", "\\"])
def test_parsing_time_is_bounded_for_long_completions(piece):
    assert last_boxed("\\boxed{1}" + piece * 100_000) == "1"
