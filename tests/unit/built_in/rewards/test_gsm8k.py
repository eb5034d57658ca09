from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlx_rewards import gsm8k_reward_fn

RATIONALE = "48/2 = <<48/2=24>>24 clips in May. 48+24 = <<48+24=72>>72.\n#### 72"


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("So 24 + 48 = 72\n#### 72", RATIONALE, 1.0),
        ("#### 73", RATIONALE, 0.0),
        ("72", RATIONALE, 0.0),
        ("no marker on either side", "72", 0.0),
        ("", "72", 0.0),
        ("####72", "72", 1.0),
        ("####  72  ", "72", 1.0),
        ("#### 72.", "72", 1.0),
        ("#### 72", "72.", 1.0),
        ("#### 72", "#### $72", 1.0),
        ("#### 72", "72.0", 1.0),
        ("**#### 72**", "72", 1.0),
        ("##### 72", "72", 1.0),
        ("### 72", "72", 0.0),
        ("#### \\boxed{72}", "72", 1.0),
        ("#### 72.0", "72", 1.0),
        ("#### 72.50", "72.5", 1.0),
        ("#### .5", "0.5", 1.0),
        ("#### $72", "72", 1.0),
        ("#### $72.00", "#### 72", 1.0),
        ("#### 72 dollars", "72", 1.0),
        ("#### 72%", "72", 1.0),
        ("#### **72**", "72", 1.0),
        ("#### x = 72", "72", 1.0),
        ("#### 6*7=42", "42", 1.0),
        ("#### 6 * 7 = 42 apples", "42", 1.0),
        ("#### (3+4) \u00d7 6 = $42", "42", 1.0),
        ("#### 50 - 8 = 40 + 2 = 42", "42", 1.0),
        ("#### 6*7=42", "6", 0.0),
        ("#### 6*7=43", "42", 0.0),
        ("#### 42=6*7", "42", 0.0),
        ("#### 41 = 42", "42", 0.0),
        ("#### 6*7=", "42", 0.0),
        ("#### 1 234", "1234", 1.0),
        ("#### 1\u202f234\u202f567.5", "1234567.5", 1.0),
        ("#### 1 234", "#### 1,234", 1.0),
        ("#### 1 23", "123", 0.0),
        ("#### 1 2345", "12345", 0.0),
        ("#### 1234 567", "1234567", 0.0),
        ("#### \u201342", "-42", 1.0),
        ("#### \u201342", "42", 0.0),
        ("#### \u2012$42", "-42", 1.0),
        ("#### \u2212 42", "-42", 1.0),
        ("#### 3\u20135", "5", 0.0),
        ("#### 1,000", "1000", 1.0),
        ("#### 1000", "#### 1,000", 1.0),
        ("#### 1,234,567.89", "1234567.89", 1.0),
        ("#### 1,2", "12", 0.0),
        ("#### -5", "-5", 1.0),
        ("#### \u22125", "-5", 1.0),
        ("#### -$5", "-5", 1.0),
        ("#### - 5", "-5", 1.0),
        ("#### 5", "-5", 0.0),
        ("#### -5", "5", 0.0),
        ("#### 71 72", "72", 0.0),
        ("#### 71 or 72", "72", 0.0),
        ("#### 70-72", "72", 0.0),
        ("#### [ANS]\nwork\n#### 72", "72", 1.0),
        ("#### 72\n#### 5", "72", 0.0),
        ("#### 72\n####", "72", 0.0),
        ("#### ", "72", 0.0),
        ("#### 72\nI am sure of 3 things", "72", 1.0),
        ("#### 72", 72, 1.0),
        ("#### 72", 72.0, 1.0),
        ("#### " + "1" * 5000, "72", 0.0),
        ("#### 1e2", "100", 0.0),
        ("#### 7/2", "3.5", 0.0),
        ("#### \uff17\uff12", "72", 1.0),
    ],
)
def test_scores_of_gsm8k(text, reference, expected):
    assert gsm8k_reward_fn(text, reference, prompt="?") == expected


@pytest.mark.parametrize("reference", [None, "", "seventy-two", "1 or 2", "24 and 48 = 72", "#### none", "####"])
def test_a_reference_without_one_number_is_an_error_for_any_completion(reference):
    for text in ("#### 72", "no marker", "#### none"):
        with pytest.raises(ValueError, match=r"must be one number|this row has none"):
            gsm8k_reward_fn(text, reference)


@given(st.text(), st.integers())
def test_text_without_a_marker_scores_zero(text, number):
    assert gsm8k_reward_fn(text.replace("#", ""), number) == 0.0


@given(st.integers(-(10**12), 10**12), st.sampled_from(["{}", "{:,}", " {}.", "${:,}", "{}.00"]))
def test_integers_are_equal_in_every_notation(number, form):
    assert gsm8k_reward_fn(f"#### {form.format(number)}", number) == 1.0
    assert gsm8k_reward_fn(f"#### {form.format(number)}", number + 1) == 0.0
