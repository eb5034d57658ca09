from __future__ import annotations

import sys

import msgspec
import pytest

from rlx.errors import UsageError
from rlx_datasets import ReasoningGymDataset
from rlx_rewards import reasoning_gym_reward_fn

factory = pytest.importorskip("reasoning_gym.factory")


def sent_and_received(reference):
    """Return the reference as a reward process receives it."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(reference))


def row_for(reference):
    return factory.create_dataset(reference["task"], **reference["options"])[reference["index"]]


@pytest.mark.parametrize("task", ["chain_sum", "game_of_life", "knights_knaves", "prime_factorization", "rearc"])
def test_the_tasks_own_answer_scores_one_and_an_unreadable_one_does_not(task):
    reference = ReasoningGymDataset(task, size=3).get_reference_answer(1)
    right = row_for(reference)["answer"]
    assert reasoning_gym_reward_fn(f"<think>?</think><answer>{right}</answer>", sent_and_received(reference)) == 1.0
    assert reasoning_gym_reward_fn("<answer>~~ no (answer</answer>", sent_and_received(reference)) < 0.1


def test_partly_right_answers_get_partial_scores():
    reference = ReasoningGymDataset("letter_jumble", size=1).get_reference_answer(0)
    words = row_for(reference)["answer"].split()
    partly = " ".join([*words[:-1], "no"])
    assert 0.0 < reasoning_gym_reward_fn(f"<answer>{partly}</answer>", reference) < 1.0


def test_text_without_tags_scores_zero_unless_the_tag_is_empty():
    reference = ReasoningGymDataset("countdown", size=1).get_reference_answer(0)
    text = row_for(reference)["answer"]
    assert reasoning_gym_reward_fn(text, reference) == 0.0
    assert reasoning_gym_reward_fn(f" {text}\n", reference, tag="") == 1.0
    assert reasoning_gym_reward_fn(f"<result>{text}</result>", reference, tag="result") == 1.0


def test_a_reference_that_is_not_a_row_raises():
    for reference in (None, "4", {"task": "gcd"}):
        with pytest.raises(ValueError, match="needs the dataset of that name"):
            reasoning_gym_reward_fn("<answer>4</answer>", reference)
    reference = ReasoningGymDataset("gcd", size=2).get_reference_answer(0)
    with pytest.raises(ValueError, match="PYTHONHASHSEED=0"):
        reasoning_gym_reward_fn("<answer>4</answer>", {**reference, "index": 1})


def test_a_failing_scorer_raises_instead_of_scoring_zero(monkeypatch):
    reference = ReasoningGymDataset("gcd", size=1).get_reference_answer(0)

    def broken(self, answer, entry):
        raise RuntimeError("out of order")

    monkeypatch.setattr(factory.DATASETS["gcd"][0], "score_answer", broken)
    with pytest.raises(RuntimeError, match="out of order"):
        reasoning_gym_reward_fn("<answer>4</answer>", reference)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    reference = {"task": "gcd", "options": {"seed": 12345}, "index": 0, "question": "?"}
    with pytest.raises(UsageError, match=r"pip install 'rlx\[reasoning-gym\]'"):
        reasoning_gym_reward_fn("<answer>4</answer>", reference)
