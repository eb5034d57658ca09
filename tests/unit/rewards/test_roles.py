from __future__ import annotations

import pytest

from rlx.config.rules import contradictions
from rlx.config.schema import Config
from rlx.config.sections.data import RewardConfig
from rlx.rewards.roles import reward_roles, rewards_of


def roles(**sections):
    config = Config.model_validate({"model": {"path": "m"}, "dataset": {"name": "d"}, **sections})
    found = reward_roles(config)
    train = [(role.index, role.reward.name, role.in_total, role.filter_weight) for role in found["train"]]
    evaluation = [(role.index, role.reward.name, role.in_total, role.filter_weight) for role in found["eval"]]
    return train, evaluation, [reward.name for reward in rewards_of(found)]


A, B = {"name": "a", "args": {"x": 1}, "weight": 3.0}, {"name": "b"}


def test_without_filters_training_and_evaluation_use_the_same_rewards():
    assert roles(rewards=[A, B]) == ([(0, "a", True, None), (1, "b", True, None)],) * 2 + (["a", "b"],)


def test_a_filter_that_is_also_a_reward_is_called_once_with_its_own_weight():
    train, evaluation, names = roles(rewards=[A, B], filter_rewards=[{**A, "weight": 0.5, "timeout_seconds": 1.0}])
    assert train == [(0, "a", True, 0.5), (1, "b", True, None)]
    assert evaluation == [(0, "a", True, None), (1, "b", True, None)]
    assert names == ["a", "b"]


@pytest.mark.parametrize("change", [{"args": {"x": 2}}, {"args": {}}, {"group": True}, {"name": "c"}])
def test_a_filter_that_differs_from_its_reward_is_called_separately(change):
    train, evaluation, names = roles(rewards=[A, B], filter_rewards=[{**A, **change}])
    assert train[:2] == [(0, "a", True, None), (1, "b", True, None)]
    assert train[2:] == [(2, change.get("name", "a"), False, 3.0)]
    assert evaluation == train[:2]
    assert len(names) == 3


def test_evaluation_rewards_come_after_the_filters_and_without_them():
    eval_section = {"dataset": {"name": "d"}, "rewards": [B, {"name": "e"}]}
    train, evaluation, names = roles(rewards=[A], filter_rewards=[{"name": "f"}], eval=eval_section)
    assert train == [(0, "a", True, None), (1, "f", False, 1.0)]
    assert evaluation == [(2, "b", True, None), (3, "e", True, None)]
    assert names == ["a", "f", "b", "e"]


@pytest.mark.parametrize(
    ("rewards", "labels"),
    [
        (["exact_match"], ["exact_match"]),
        (["./shape.py:close"], ["close"]),
        (["my.package:Judge.strict"], ["Judge.strict"]),
        (["../a b/shape.py:close", "C:/x.py:far"], ["close", "far"]),
        (["my-dist/judge", "judge"], ["judge", "judge_2"]),
        (["./a.py:close", "./b.py:close", "./c.py:close"], ["close", "close_2", "close_3"]),
        ([("./a.py:close", "near")], ["near"]),
        # A label that is written down is never taken by another reward.
        (["./a.py:close", ("./b.py:far", "close")], ["close_2", "close"]),
        (["./a.py:close", ("./b.py:far", "close_2"), "./c.py:close"], ["close", "close_2", "close_3"]),
        # One reward twice, with other args.
        ([("format", "first"), ("format", "second")], ["first", "second"]),
    ],
)
def test_rewards_have_short_labels_that_differ(rewards, labels):
    tables = [{"name": entry} if isinstance(entry, str) else dict(zip(("name", "label"), entry)) for entry in rewards]
    sections = {"rewards": tables, "filter_rewards": [{**table, "group": True} for table in tables]}
    config = Config.model_validate({"model": {"path": "m"}, "dataset": {"name": "d"}, **sections})
    assert contradictions(config) == []
    assert [role.label for role in reward_roles(config)["train"]] == [*labels, *labels]


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        ([{"name": "a"}, {"name": "a"}], "[[rewards]]: 'a' is listed more than once"),
        ([{"name": "a", "label": "x"}, {"name": "b", "label": "x"}], "[[rewards]] label: 'x' is listed more than once"),
    ],
)
def test_a_label_belongs_to_one_reward(rewards, message):
    config = Config.model_validate({"model": {"path": "m"}, "dataset": {"name": "d"}, "rewards": rewards})
    assert contradictions(config) == [message]


@pytest.mark.parametrize("label", ["", "a/b", "./a.py:b", "a b", "-a", 'a"b'])
def test_a_label_fits_into_names_of_metrics_and_columns(label):
    with pytest.raises(ValueError, match="label"):
        RewardConfig.model_validate({"name": "a", "label": label})
