from __future__ import annotations

from importlib.metadata import distribution

import pytest

from rlx.testing.reward import Example, check_reward

EXAMPLES = {
    "boxed_math": [("\\boxed{42}", "42", 1.0), ("42", "42", 0.0)],
    "direct_math": [("Answer: 42", "42", 1.0), ("42", "42", -1.0)],
    "exact_match": [("42", "42", 1.0), ("43", "42", 0.0)],
    "format": [("<think></think><answer></answer>", None, 1.0), ("42", None, 0.0)],
    "gsm8k": [("#### 42", "42", 1.0), ("42", "42", 0.0)],
    "math": [("42", "42", 1.0), ("43", "42", 0.0)],
    "overlong": [Example("long", None, -0.5, token_ids=[7] * 9), Example("short", None, 0.0, token_ids=[7])],
    "single_choice": [("B", "b", 1.0), ("C", "b", 0.0)],
}
OPTIONS = {"overlong": {"max_response_length": 10, "buffer_length": 2}}


@pytest.fixture(params=sorted(EXAMPLES))
def name(request) -> str:
    return request.param


def loaded(name):
    (point,) = distribution("rlx").entry_points.select(group="rlx.rewards", name=name)
    return point.load()


def test_built_in_rewards_keep_the_contract(name):
    check_reward(loaded(name), args=OPTIONS.get(name), examples=EXAMPLES[name])


def test_the_http_reward_keeps_the_contract(server):
    check_reward(loaded("http"), args={"url": server.url}, examples=[("42", "42", 2.0), ("", "42", 0.0)])
