"""Answers and references, decided by hand. `math` and `boxed_math`, with sympy: tests/integration/rewards."""

from __future__ import annotations

import pytest

from rlx_rewards import direct_math_reward_fn

from .math_pairs import cases, families


@pytest.mark.parametrize("family", families("direct_math"))
def test_the_verdicts_of_direct_math_are_those_decided_by_hand(family):
    found = [(text, reference) for text, reference, _ in cases("direct_math", family)]
    right = [(text, reference) for text, reference, verdict in cases("direct_math", family) if verdict]
    scored = [pair for pair in found if direct_math_reward_fn(*pair) == 1.0]
    assert set(scored) - set(right) == set(), "wrong answers that score"
    assert set(right) - set(scored) == set(), "right answers that don't"


@pytest.mark.parametrize("family", families("direct_math"))
def test_no_verdict_depends_on_which_side_is_the_reference(family):
    for text, reference, verdict in cases("direct_math", family):
        answer = text.removeprefix("Answer: ")
        if verdict and "\n" not in text and text.startswith("Answer: ") and family != "lists, sets, tuples":
            assert direct_math_reward_fn(f"Answer: {reference}", answer) == 1.0, (reference, answer)


def test_the_table_is_large_and_half_of_it_is_wrong():
    pairs = {
        (text, reference): verdict
        for reward in ("math", "boxed_math", "direct_math")
        for family in families(reward)
        for text, reference, verdict in cases(reward, family)
    }
    assert len(pairs) > 2000
    assert list(pairs.values()).count(False) > 900
