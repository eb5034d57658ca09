from __future__ import annotations

import asyncio
import math
import re
from itertools import count

import pytest

import rlx
from rlx.testing import ContractError, Example, check_reward
from rlx.testing.suites.reward import RULES

numbers = count()


def right(text, reference=None, **kwargs):
    return float(text == reference)


def with_metrics(text, reference, *, token_ids, prompt, scale: float = 1.0):
    assert prompt == "1+1="
    return scale * (text == reference), {"tokens": len(token_ids)}


async def slow(text, reference=None, **kwargs):
    await asyncio.sleep(0)
    return float(text == reference)


class Made:
    def __init__(self, *, minimum: int):
        self.minimum = minimum

    def __call__(self, text, reference=None):
        return float(len(text) >= self.minimum)


@rlx.group_reward
def shortest(texts, reference=None, *, token_ids, finish_reason):
    assert len(texts) == len(token_ids) == len(finish_reason)
    best = min(map(len, token_ids))
    return [None if reason == "length" else float(len(ids) == best) for ids, reason in zip(token_ids, finish_reason)]


@pytest.mark.parametrize(
    ("reward", "options"),
    [
        (right, {}),
        (right, {"examples": [("2", "2", 1.0), ("3", "2", 0), ("3", "2")]}),
        (with_metrics, {"args": {"scale": 0.5}, "examples": [Example("2", "2", 0.5, prompt="1+1=")]}),
        (slow, {"examples": [("2", "2", 1.0)]}),
        (Made, {"args": {"minimum": 2}, "examples": [("22", None, 1.0), ("2", None, 0.0)]}),
        (shortest, {"examples": [(["a", "bb", "c"], None, [1.0, 0.0, 1.0]), ("alone", None, 1.0)]}),
        (
            shortest,
            {
                "examples": [
                    Example(["a", "bb"], None, [None, 1], token_ids=[[1, 2], [1]], finish_reason=["length", "stop"])
                ]
            },
        ),
        (lambda texts, reference=None: [1.0] * len(texts), {"group": True, "examples": [(["a", "b"], None, [1, 1])]}),
    ],
)
def test_rewards_that_keep_the_contract(reward, options):
    check_reward(reward, **options)


def misspelt(text, reference=None, *, lenght: int = 3):
    return 1.0


def only_text(text):
    return 1.0


def draws(text, reference=None):
    return next(numbers)


def changes(text, reference=None, *, example=None):
    reference.append(3)
    return 1.0


def sometimes_none(text, reference=None):
    return 1.0 if text.strip() else None


def first_word(text, reference=None):
    return float(text.split()[0] == reference)


@rlx.group_reward
def spread(texts, reference=None):
    import statistics

    return [statistics.stdev(map(len, texts))] * len(texts)


@rlx.group_reward
def too_few(texts, reference=None):
    return [1.0]


BROKEN = [
    (
        "options",
        misspelt,
        {"args": {"length": 3}},
        "args of reward .*misspelt.*: length: unknown key. Did you mean 'lenght'",
    ),
    ("options", 3, {}, "reward builtins:int is a int, not a function"),
    ("options", Made, {"args": {}}, "minimum: this is missing"),
    ("options", only_text, {}, re.escape("takes (text), but a reward gets")),
    ("transport", right, {"examples": [("2", object())]}, "builtins.object is not plain data"),
    (
        "score",
        sometimes_none,
        {"examples": [(" ", "2")]},
        "returned None, which is not a reward(.|\n)*The completion: ' '",
    ),
    (
        "score",
        lambda text, reference: math.nan,
        {"examples": [("2", "2")]},
        "returned float nan, which is not a reward",
    ),
    (
        "score",
        lambda text, reference: 1 / 0,
        {"examples": [("2", "2")]},
        "ZeroDivisionError: division by zero\n.*test_reward_suite.py",
    ),
    ("score", too_few, {"examples": [(["a", "b"], None)]}, "returned 1 values for 2 completions"),
    (
        "expected",
        right,
        {"examples": [("2", "3", 1.0)]},
        r"it returned \[0\.0\], not \[1\.0\], for the reference '3'. The completion: '2'",
    ),
    ("repeat", draws, {"examples": [("2", "2")]}, r"it returned \[\d+\.0\] and then \[\d+\.0\]. The completion: '2'"),
    ("unchanged", changes, {"examples": [("2", [2])]}, "changed the reference answer or the dataset's item"),
    ("any-text", sometimes_none, {}, "returned None(.|\n)*Return a number for an empty completion too"),
    (
        "any-text",
        first_word,
        {"examples": [("2", "2", 1.0)]},
        r"IndexError: list index out of range\n.*return float\(text.split",
    ),
    (
        "any-group",
        spread,
        {"examples": [(["a", "bb"], None)]},
        "StatisticsError(.|\n)*Return a number for a single completion too",
    ),
]


@pytest.mark.parametrize(("rule", "reward", "options", "text"), BROKEN)
def test_a_broken_rule_is_reported_with_what_was_observed(rule, reward, options, text):
    with pytest.raises(ContractError, match=text) as caught:
        check_reward(reward, **options)
    assert caught.value.rules[0] == rule
    assert f"\n{rule}: {RULES[rule]}\n" in str(caught.value)


def test_every_rule_has_a_reward_that_breaks_it():
    assert {rule for rule, *_ in BROKEN} == set(RULES)


def test_exceptions_may_be_declared_as_refusals():
    with pytest.raises(ContractError, match=r"refuses=\(IndexError,\)"):
        check_reward(first_word, examples=[("2", "2")])
    check_reward(first_word, examples=[("2", "2")], refuses=(IndexError,))


def test_without_examples_an_error_is_about_the_missing_reference():
    def needs(text, reference=None):
        return float(text == reference.strip())

    check_reward(needs)
    check_reward(needs, examples=[("2", "2", 1)])


def test_a_judge_that_samples_need_not_repeat_itself():
    check_reward(draws, examples=[("2", "2")], repeatable=False)


def test_all_broken_rules_are_in_one_message_each_rule_once():
    with pytest.raises(ContractError) as caught:
        check_reward(first_word, examples=[("2", "3", 1.0), ("2 x", [2], 1.0)])
    text = str(caught.value)
    assert caught.value.rules == ["expected", "any-text"]
    assert text.startswith("reward ")
    assert "breaks 2 rules of its contract.\nexpected: " in text
    assert text.count("any-text: ") == 1
    assert isinstance(caught.value, AssertionError)


def test_an_unserializable_example_breaks_one_rule():
    with pytest.raises(ContractError) as caught:
        check_reward(right, examples=[("2", object())])
    assert caught.value.rules == ["transport"]


async def test_check_reward_refuses_to_run_in_an_event_loop():
    with pytest.raises(RuntimeError, match="runs its own event loop: call it from a plain function, not an async one"):
        check_reward(slow)


def test_a_list_of_completions_is_for_group_rewards():
    with pytest.raises(TypeError, match="is not a group reward"):
        check_reward(right, examples=[(["2"], "2")])


def test_rewards_get_their_arguments_as_in_the_reward_process():
    seen = {}

    def look(text, reference=None, **kwargs):
        seen.update(reference=reference, **kwargs)
        return 1.0

    check_reward(look, examples=[Example("22", (1, 2), example={"prompt": ("a",)}, finish_reason="length")])
    assert seen["reference"] == [1, 2]
    assert set(seen) == {
        "reference",
        "prompt",
        "token_ids",
        "finish_reason",
        "tokenizer",
        "config",
        "example",
        "data_packer",
    }
    assert seen["config"].rollout.max_tokens > 0
    assert seen["tokenizer"].encode("22") == [5, 5]
