from __future__ import annotations

from types import SimpleNamespace

import pytest

from rlx.errors import ConfigError
from rlx.rewards.bound import BoundReward, check_reward_args
from rlx_rewards import OverlongReward, overlong_reward_fn


def tokens(number):
    return {"token_ids": [7] * number}


def config(max_tokens):
    return SimpleNamespace(rollout=SimpleNamespace(max_tokens=max_tokens))


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1, 0.0),
        (100, 0.0),
        (16383, 0.0),
        (16384, 0.0),
        (17408, -0.25),
        (18432, -0.5),
        (20479, -4095 / 4096),
        (20480, -1.0),
        (20481, -1.0),
        (100_000, -1.0),
    ],
)
def test_penalties_equal_those_of_the_dapo_paper(length, expected):
    options = {"max_response_length": 20480, "buffer_length": 4096}
    assert BoundReward(OverlongReward, options)("text", None, tokens(length)) == expected
    assert overlong_reward_fn("text", None, **options, **tokens(length)) == expected
    assert overlong_reward_fn("text", None, **options, penalty_factor=0.5, **tokens(length)) == expected / 2
    assert overlong_reward_fn("text", None, max_response_length=20480, **tokens(length)) == expected
    assert overlong_reward_fn("text", None, config=config(20480), **tokens(length)) == expected


def test_zero_penalty_is_positive_zero():
    assert str(overlong_reward_fn("text", None, max_response_length=10, **tokens(1))) == "0.0"


@pytest.mark.parametrize(("longest", "length", "expected"), [(2, 1, 0.0), (2, 2, -1.0), (4, 3, 0.0), (7, 7, -1.0)])
def test_short_limits_have_a_buffer_of_one_token(longest, length, expected):
    assert overlong_reward_fn("text", config=config(longest), **tokens(length)) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_response_length": 2048, "buffer_length": 4096}, "buffer_length = 4096 must be less than .* = 2048"),
        ({"max_response_length": 4096, "buffer_length": 4096}, "must be less than"),
        ({"max_response_length": 1}, "buffer_length = 1 must be less than"),
        ({"max_response_length": 0}, "max_response_length: must be greater than 0"),
        ({"buffer_length": 0}, "buffer_length: must be greater than 0"),
        ({"penalty_factor": -1.0}, "penalty_factor: must be at least 0"),
        ({"max_length": 7}, "max_length: unknown key. Did you mean 'max_response_length'"),
    ],
)
def test_contradictory_options_are_refused_before_the_run(options, message):
    with pytest.raises(ConfigError, match=message):
        check_reward_args(OverlongReward, options, owner="reward 'overlong'")


def test_the_function_refuses_contradictory_options():
    with pytest.raises(ValueError, match="buffer_length = 4096 must be less than"):
        overlong_reward_fn("text", None, max_response_length=2048, buffer_length=4096, **tokens(1))


def test_a_buffer_larger_than_the_configs_max_tokens_is_an_error():
    with pytest.raises(ValueError, match="buffer_length = 600 must be less than max_response_length = 512"):
        overlong_reward_fn("text", None, buffer_length=600, config=config(512), **tokens(1))


def test_text_is_tokenized_only_without_token_ids():
    class Words:
        def encode(self, text, *, add_special_tokens):
            assert not add_special_tokens
            return text.split()

    options = {"max_response_length": 4, "buffer_length": 2, "tokenizer": Words()}
    assert overlong_reward_fn("one two three", **options) == -0.5
    assert overlong_reward_fn("one two three", token_ids=(), **options) == -0.5
    assert overlong_reward_fn("one two three", **options, **tokens(2)) == 0.0
    assert overlong_reward_fn("", **options) == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"max_response_length": 4}, "give token_ids, or a tokenizer"), (tokens(3), "give max_response_length")],
)
def test_an_unknown_length_or_limit_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        overlong_reward_fn("text", None, **options)
