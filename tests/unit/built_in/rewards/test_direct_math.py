from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlx_rewards import direct_math_reward_fn
from rlx_rewards.answers.clean import cleaned


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        # where the answer is
        ("Answer: 42", "42", 1.0),
        ("so 6*7 is what we want.\nAnswer: 42", "42", 1.0),
        ("the final ANSWER : 42", "42", 1.0),
        ("Answer:42", "42", 1.0),
        ("Answer:\n42", "42", 1.0),
        ("Answer: 42\nI am sure of it", "42", 1.0),
        ("Answer: 41\nno, Answer: 42", "42", 1.0),
        ("Answer: 42\nno, Answer: 41", "42", -1.0),
        ("Answer: 42\nAnswer:", "42", 1.0),
        ("**Answer:** 42", "42", 1.0),
        ("**Answer**: 42", "42", 1.0),
        ("**Answer: 42**", "42", 1.0),
        ("__Answer:__ `42`", "42", 1.0),
        ("42", "42", -1.0),
        ("\\boxed{42}", "42", -1.0),
        ("", "42", -1.0),
        ("Answer:", "42", -1.0),
        ("Answer: ", "42", -1.0),
        # without a marker, nothing is right
        ("no marker", "[INVALID]", -1.0),
        ("", "[INVALID]", -1.0),
        ("Answer: $$", "42", -1.0),
        ("Answer: \\boxed{}", "42", -1.0),
        # delimiters of the answer
        ("Answer: 42.", "42", 1.0),
        ("Answer: $42$", "42", 1.0),
        ("Answer: $42$.", "42", 1.0),
        ("Answer: $42.$", "42", 1.0),
        ("Answer: $42", "42", 1.0),
        ("Answer: \\$42", "42", 1.0),
        ("Answer: $\\$42$", "42", 1.0),
        ("Answer: \\(42\\)", "42", 1.0),
        ("Answer: \\[42\\]", "42", 1.0),
        ("Answer: \\boxed{42}", "42", 1.0),
        ("Answer: $\\boxed{42}$.", "42", 1.0),
        ("Answer: \\boxed{\\text{42}}", "42", 1.0),
        ("Answer: it is $42$, surely", "42", 1.0),
        ("Answer: $42 and $43", "42", -1.0),
        ("Answer: $42 and $43", "43", -1.0),
        ("Answer: 41 or 42", "42", -1.0),
        # notations of the reference
        ("Answer: 42", "$42$", 1.0),
        ("Answer: 42", "\\boxed{42}", 1.0),
        ("Answer: 42", "42.", 1.0),
        ("Answer: 42", 42, 1.0),
        ("Answer: 42", 42.0, 1.0),
        # numbers
        ("Answer: 1,000", "1000", 1.0),
        ("Answer: 1000", "1,000", 1.0),
        ("Answer: 1{,}000", "1000", 1.0),
        ("Answer: 1\\,000", "1000", 1.0),
        ("Answer: 1,\\!000", "1000", 1.0),
        ("Answer: $1,234,567.50", "1234567.5", 1.0),
        ("Answer: 1,2", "12", -1.0),
        ("Answer: (1,200)", "(1200)", -1.0),
        ("Answer: 3.50", "3.5", 1.0),
        ("Answer: 42.0", "42", 1.0),
        ("Answer: .5", "0.5", 1.0),
        ("Answer: +5", "5", 1.0),
        ("Answer: -5", "-5", 1.0),
        ("Answer: \u22125", "-5", 1.0),
        ("Answer: 5", "-5", -1.0),
        ("Answer: 0.5", "\\frac{1}{2}", 1.0),
        ("Answer: 1/2", "\\frac{1}{2}", 1.0),
        ("Answer: 2/4", "\\frac{1}{2}", 1.0),
        ("Answer: -\\frac{1}{2}", "-0.5", 1.0),
        ("Answer: \\frac{-1}{2}", "-1/2", 1.0),
        ("Answer: 0.333", "\\frac{1}{3}", -1.0),
        ("Answer: 1/0", "0", -1.0),
        ("Answer: 0.\\overline{3}", "0.3", -1.0),
        ("Answer: 1e3", "1000", 1.0),
        # LaTeX
        ("Answer: \\dfrac{1}{2}", "\\frac{1}{2}", 1.0),
        ("Answer: \\tfrac{x}{2}", "\\frac{x}{2}", 1.0),
        ("Answer: \\frac12", "\\frac{1}{2}", 1.0),
        ("Answer: \\frac1{72}", "\\frac{1}{72}", 1.0),
        ("Answer: \\frac{1}3", "\\frac{1}{3}", 1.0),
        ("Answer: \\frac{x}3", "\\frac x3", 1.0),
        ("Answer: \\sqrt2", "\\sqrt{2}", 1.0),
        ("Answer: \\frac{\\sqrt{2}}{2}", "\\dfrac{\\sqrt2}{2}", 1.0),
        ("Answer: \\left(1, 2\\right)", "(1,2)", 1.0),
        ("Answer: (2, 1)", "(1,2)", -1.0),
        ("Answer: \\overline{AB}", "AB", 1.0),
        ("Answer: 1 \\text{and} 2", "1,2", 1.0),
        ("Answer: 1 and 2", "1, 2", 1.0),
        ("Answer: (x+1)^2", "x^2+2x+1", -1.0),
        # equations
        ("Answer: x=5", "5", 1.0),
        ("Answer: $x = 5$", "5", 1.0),
        ("Answer: 5", "x=5", 1.0),
        ("Answer: 2+3=5", "5", 1.0),
        ("Answer: x=5", "6", -1.0),
        # units, percent, degrees
        ("Answer: 42 km", "42", 1.0),
        ("Answer: 42km", "42", 1.0),
        ("Answer: 42 km.", "42", 1.0),
        ("Answer: $42$ km", "42", 1.0),
        ("Answer: **42** km", "42", 1.0),
        ("Answer: 42 \\text{ km}", "42", 1.0),
        ("Answer: 42\\text{ cm}^2", "42", 1.0),
        ("Answer: 42 square units", "42", 1.0),
        ("Answer: 25\\pi \\text{ square units}", "25\\pi", 1.0),
        ("Answer: 42", "42 points", 1.0),
        ("Answer: 50\\%", "50", 1.0),
        ("Answer: 90^\\circ", "90", 1.0),
        ("Answer: 90^{\\circ}", "90 degrees", 1.0),
        ("Answer: 5 hours 30 minutes", "530", -1.0),
        # words stay whole
        ("Answer: pursue", "pursue", 1.0),
        ("Answer: pur", "pursue", -1.0),
        ("Answer: pizz", "pizza", -1.0),
        ("Answer: pizza pie", "pizzpie", -1.0),
        ("Answer: Susan", "Sus", -1.0),
        ("Answer: degrees", "km", -1.0),
        ("Answer: degrees", "degrees", 1.0),
        ("Answer: always", "al", -1.0),
        ("Answer: a cat", "cat", 1.0),
        ("Answer: an owl", "owl", 1.0),
        ("Answer: a + b", "a+b", 1.0),
        ("Answer: a + b", "b", -1.0),
        ("Answer: sand", "s,", -1.0),
        ("Answer: \\text{even}", "even", 1.0),
        ("Answer: Even", "even", 1.0),
    ],
)
def test_scores_of_direct_math(text, reference, expected):
    assert direct_math_reward_fn(text, reference, prompt="?") == expected


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("<a>42</a>", {"answer_pattern": "<a>(.*?)</a>"}, 1.0),
        ("<a>1</a><a>42</a>", {"answer_pattern": "<a>(.*?)</a>"}, 1.0),
        ("it is 42 km", {"answer_pattern": r"\d+"}, 1.0),
        ("Answer: 42", {"answer_pattern": "<a>(.*?)</a>"}, -1.0),
        ("Result ", {"answer_pattern": r"Result (\d+)?"}, -1.0),
        ("Answer: 42", {"solution_length_limit": 10}, 1.0),
        ("Answer: 42", {"solution_length_limit": 9}, -1.0),
        ("Answer: 42" + " " * 300, {"solution_length_limit": 300}, -1.0),
        ("Answer: 41 " + "x" * 300 + "Answer: 42", {"solution_length_limit": 300}, 1.0),
    ],
)
def test_answer_pattern_and_length_limit(text, options, expected):
    assert direct_math_reward_fn(text, "42", **options) == expected


def test_a_length_limit_of_zero_is_an_error():
    with pytest.raises(ValueError, match="solution_length_limit = 0"):
        direct_math_reward_fn("Answer: 42", "42", solution_length_limit=0)


@pytest.mark.parametrize("reference", [None, "", " ", "$$", ".", "\\boxed{}"])
@pytest.mark.parametrize("text", ["Answer: 42", "no marker", "Answer: $$", ""])
def test_an_empty_reference_is_an_error_for_any_completion(text, reference):
    with pytest.raises(ValueError, match="which is empty"):
        direct_math_reward_fn(text, reference)


@given(st.text(alphabet=st.characters(exclude_characters=":")), st.text(min_size=1))
def test_text_without_a_marker_is_wrong(text, reference):
    if cleaned(reference):
        assert direct_math_reward_fn(text, reference) == -1.0


@given(st.fractions(), st.sampled_from(["{0}/{1}", "\\frac{{{0}}}{{{1}}}", "$x = \\dfrac{{{0}}}{{{1}}}$."]))
def test_fractions_are_equal_in_every_notation(number, form):
    written = form.format(number.numerator, number.denominator)
    assert direct_math_reward_fn(f"Answer: {written}", str(number)) == 1.0
    assert direct_math_reward_fn(f"Answer: {written}", str(number + Fraction(1, 7))) == -1.0


@given(st.text())
def test_any_text_after_the_marker_is_right_or_wrong(text):
    assert direct_math_reward_fn(f"Answer: {text}", "42") in (1.0, -1.0)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece", ["1", "$", "{", "\\boxed{", "\\frac", "\\text{", "Answer:", "Answer ", "* ", " ", "km ", "1,", "0"]
)
def test_scoring_time_is_bounded_for_long_completions(piece):
    assert direct_math_reward_fn(f"Answer: 1{piece * 30_000}!", "42") == -1.0
    assert direct_math_reward_fn(f"Answer: 1{piece * (900 // len(piece))}!", "42") == -1.0
    assert direct_math_reward_fn(piece * 30_000, "42") == -1.0


def test_long_answers_are_compared_verbatim():
    assert direct_math_reward_fn("Answer: " + "7" * 5000, "7" * 5000) == 1.0
    assert direct_math_reward_fn("Answer: " + "7" * 5000, "7" * 4999) == -1.0
