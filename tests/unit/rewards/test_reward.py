from __future__ import annotations

import math

import numpy as np
import pytest

import rlx
from rlx.errors import ConfigError, PluginError, RewardError
from rlx.rewards.base import OFFERED
from rlx.rewards.bound import BoundReward, check_reward_args
from rlx.rewards.result import score_of, scores_of

ALL = {name: f"the {name}" for name in OFFERED}


def seed_form(to_be_evaluated, reference=None, *args, **kwargs):
    return {"text": to_be_evaluated, "reference": reference, "args": args, **kwargs}


def short(text, reference):
    return text


def named(text, reference, prompt, *, tokenizer, scale=1.0):
    return (text, reference, prompt, tokenizer, scale)


class Made:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, text, reference, *, example):
        return (self.scale, text, example)


def test_a_reward_gets_the_offered_arguments_that_its_signature_accepts():
    assert BoundReward(seed_form, {})("t", "r", ALL) == {"text": "t", "reference": "r", "args": (), **ALL}
    assert BoundReward(named, {"scale": 2})("t", "r", ALL) == ("t", "r", "the prompt", "the tokenizer", 2)
    assert BoundReward(Made, {"scale": 3})("t", "r", ALL) == (3, "t", "the example")


def test_named_arguments_are_distinguished_from_kwargs():
    assert BoundReward(seed_form, {}).names == frozenset()
    assert BoundReward(seed_form, {}).accepts == frozenset(OFFERED)
    assert BoundReward(named, {}).names == BoundReward(named, {}).accepts == {"prompt", "tokenizer"}


@pytest.mark.parametrize(
    ("result", "value", "metrics"),
    [
        (1, 1.0, {}),
        (-0.5, -0.5, {}),
        (True, 1.0, {}),
        (np.float32(0.5), 0.5, {}),
        (np.int64(2), 2.0, {}),
        (np.bool_(True), 1.0, {}),
        (np.array([0.5]), 0.5, {}),
        ((1.0, {"length": 3}), 1.0, {"length": 3.0}),
        ((np.float64(1), {"a": np.float32(2), "b": math.inf}), 1.0, {"a": 2.0, "b": math.inf}),
    ],
)
def test_results_become_scores(result, value, metrics):
    score = score_of(result, "reward 'x'", "text")
    assert (score.value, score.metrics) == (value, metrics)
    assert type(score.value) is float


def test_a_tensor_of_one_element_is_a_number():
    torch = pytest.importorskip("torch")
    assert score_of(torch.tensor(0.25), "r", "t").value == 0.25
    with pytest.raises(RewardError):
        score_of(torch.ones(2), "r", "t")


@pytest.mark.parametrize(
    "result",
    [
        None,
        "1.0",
        math.nan,
        math.inf,
        -math.inf,
        1j,
        [1.0],
        np.ones(2),
        (1.0, 2.0),
        (1.0, {}, {}),
        {"score": 1},
        (None, {}),
    ],
)
def test_an_invalid_result_is_an_error_with_owner_and_completion(result):
    with pytest.raises(
        RewardError, match=r"reward 'x' \(d 1\) returned .*is not a (reward|dict)(.|\n)*The completion: 'some text'"
    ) as caught:
        score_of(result, "reward 'x' (d 1)", "some text")
    assert caught.value.owner == "reward 'x' (d 1)"


def test_a_metric_that_is_not_a_number_is_named():
    with pytest.raises(RewardError, match="a metric that is not a number: why = 'short'"):
        score_of((1.0, {"why": "short"}), "r", "t")


def test_long_completions_are_truncated_in_errors():
    with pytest.raises(RewardError, match=r"\.\.\. \(5000 characters\)") as caught:
        score_of(None, "r", "x" * 5000)
    assert len(str(caught.value)) < 800


def test_the_error_for_a_list_from_a_reward_of_one_completion_suggests_the_decorator():
    with pytest.raises(RewardError, match=r"marked with @rlx\.group_reward"):
        score_of([1.0], "r", "t")


@rlx.group_reward
def best(texts, reference=None, *, margin=0.0):
    return [float(len(text) == max(map(len, texts))) - margin for text in texts]


@rlx.group_reward
class Ranked:
    def __call__(self, texts, reference=None):
        return [1.0 / (1 + rank) for rank in range(len(texts))]


class ChoosesByOption:
    def __init__(self, together):
        self.group_reward = together

    def __call__(self, text, reference=None): ...


@pytest.mark.parametrize(
    ("target", "args", "group"),
    [
        (short, {}, False),
        (best, {}, True),
        (Ranked, {}, True),
        (ChoosesByOption, {"together": True}, True),
        (ChoosesByOption, {"together": False}, False),
    ],
)
def test_the_decorator_or_attribute_makes_a_group_reward(target, args, group):
    check_reward_args(target, args, owner="r")
    assert BoundReward(target, args).group is group


def test_a_decorated_function_can_still_be_called():
    assert best(["a", "bc"], margin=0.5) == [-0.5, 0.5]
    assert BoundReward(best, {"margin": 0.5})(["a", "bc"], None, ALL) == [-0.5, 0.5]


@pytest.mark.parametrize(
    ("result", "values", "metrics"),
    [
        ([1, 0.5], [1.0, 0.5], [{}, {}]),
        ([None, True], [None, 1.0], [{}, {}]),
        ([None, None], [None, None], [{}, {}]),
        (np.array([1.0, 2.0], np.float32), [1.0, 2.0], [{}, {}]),
        ([np.float32(0.5), np.array([2])], [0.5, 2.0], [{}, {}]),
        (([1.0, None], [{"a": 1}, {"b": math.inf}]), [1.0, None], [{"a": 1.0}, {"b": math.inf}]),
    ],
)
def test_group_results_become_scores(result, values, metrics):
    scores = scores_of(result, "r", ["one", "two"])
    assert [score.value for score in scores] == values
    assert [score.metrics for score in scores] == metrics


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (1.0, r"returned float 1\.0, which is not a reward(.|\n)*The first of its 2 completions: 'one'"),
        ((1.0, 0.0), r"returned float 1\.0, which is not a reward"),
        ("ab", "returned str 'ab', which is not a reward"),
        (None, "returned None, which is not a reward"),
        ([1.0], r"returned 1 values for 2 completions(.|\n)*first of its 2 completions: 'one'"),
        ([1.0, 0.0, 0.0], "returned 3 values for 2 completions"),
        ([], "returned 0 values for 2 completions"),
        (([1.0, 0.0], [{}]), "returned 1 values for 2 completions"),
        (([1.0, 0.0], {}), "returned dict {}, which is not a reward"),
        ([1.0, math.nan], r"returned float nan, which is not a reward(.|\n)*Completion 2 of 2: 'two'"),
        ([1.0, "0"], r"returned str '0', which is not a reward(.|\n)*Completion 2 of 2"),
        ([1.0, [0.0]], r"returned list \[0\.0\], which is not a reward"),
        (([1.0, 0.0], [{}, 3]), "returned int 3, which is not a dict of metrics"),
        (([1.0, 0.0], [{}, {"why": "short"}]), "returned a metric that is not a number: why = 'short'"),
    ],
)
def test_an_invalid_group_result_is_an_error_with_its_owner(result, message):
    with pytest.raises(RewardError, match=rf"reward 'x' \(d 1\) {message}") as caught:
        scores_of(result, "reward 'x' (d 1)", ["one", "two"])
    assert caught.value.owner == "reward 'x' (d 1)"


def test_options_are_checked_against_the_signature():
    check_reward_args(named, {"scale": 2.0}, owner="r")
    check_reward_args(Made, {"scale": 2.0}, owner="r")
    check_reward_args(seed_form, {}, owner="r")
    with pytest.raises(ConfigError, match="Did you mean 'scale'"):
        check_reward_args(named, {"scael": 2.0}, owner="r")
    with pytest.raises(ConfigError, match=r"args of r: x: unknown key"):
        check_reward_args(seed_form, {"x": 2.0}, owner="r")
    with pytest.raises(ConfigError, match="prompt: rlx sets this itself"):
        check_reward_args(named, {"prompt": "p"}, owner="r")
    with pytest.raises(ConfigError, match="scale: this is missing"):
        check_reward_args(Made, {}, owner="r")


@pytest.mark.parametrize("target", [3, "text", type("NotCallable", (), {})])
def test_an_object_that_cannot_be_called_is_not_a_reward(target):
    with pytest.raises(PluginError, match=r"reward 'x' is a"):
        check_reward_args(target, {}, owner="reward 'x'")
