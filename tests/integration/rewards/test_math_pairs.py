"""Answers and references, decided by hand, for the rewards that compute with sympy. The rules on what is written are
tested in tests/unit/built_in/rewards, with `direct_math`."""

from __future__ import annotations

import pytest

from rlx_rewards import boxed_math_reward_fn, math_reward_fn

from ...unit.built_in.rewards.math_pairs import TABLE, cases, families  # noqa: TID252 - the same table

REWARDS = {"math": math_reward_fn, "boxed_math": boxed_math_reward_fn}


@pytest.mark.parametrize(("reward", "family"), [(reward, family) for reward in REWARDS for family in families(reward)])
def test_the_verdicts_are_those_decided_by_hand(reward, family):
    found = [(text, reference) for text, reference, _ in cases(reward, family)]
    right = [(text, reference) for text, reference, verdict in cases(reward, family) if verdict]
    scored = [pair for pair in found if REWARDS[reward](*pair) == 1.0]
    assert set(scored) - set(right) == set(), "wrong answers that score"
    assert set(right) - set(scored) == set(), "right answers that don't"


def test_the_known_false_negatives_are_still_those():
    scored = [pair for *pair, _ in TABLE["unknown"]["pairs"] if math_reward_fn(f"\\boxed{{{pair[0]}}}", pair[1])]
    assert scored == [], "move them to the right ones"
