"""Every task of reasoning-gym, through rlx's dataset and reward."""

from __future__ import annotations

import copy
import subprocess
import sys

import msgspec
import pytest

from rlx_datasets import ReasoningGymDataset
from rlx_rewards import reasoning_gym_reward_fn

factory = pytest.importorskip("reasoning_gym.factory")

TASKS = sorted(set(factory.DATASETS) - {"composite"})
MANY_ANSWERS = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}
"""Tasks whose rows have no answer: only the scorer can judge one."""
YES_OR_NO = {"game_of_life_halting"}
"""Tasks whose scorer takes any text for one of two answers."""


@pytest.mark.parametrize("task", TASKS)
def test_the_answer_of_a_task_is_right_and_an_unreadable_one_scores_low(task):
    original = ReasoningGymDataset(task, size=3).get_reference_answer(1)
    reference = msgspec.msgpack.decode(msgspec.msgpack.encode(original))
    row = factory.create_dataset(task, **original["options"])[1]
    right = reasoning_gym_reward_fn(f"<think>?</think><answer>{row['answer']}</answer>", reference)
    assert right == 1.0 or (task in MANY_ANSWERS and row["answer"] is None)
    for _ in range(2):
        assert reasoning_gym_reward_fn("<answer>~~ no (answer</answer>", reference) <= 0.05 or task in YES_OR_NO


@pytest.mark.parametrize("task", TASKS)
def test_scorers_do_not_change_rows(task):
    """The reward caches rows, and passes each of them to the scorer many times."""
    dataset = factory.create_dataset(task, size=3, seed=0)
    row = dataset[1]
    before = copy.deepcopy(row)
    dataset.score_answer(row["answer"], row)
    assert row == before


@pytest.mark.parametrize(("seeds", "same"), [(("0", "0"), True), (("1", "2"), False)])
def test_tasks_that_draw_from_sets_need_a_fixed_hash_seed(seeds, same):
    code = (
        "from rlx_datasets import ReasoningGymDataset as D\n"
        "for task in 'isomorphic_strings', 'polynomial_multiplication', 'ransom_note':\n"
        "    d = D(task, size=3)\n"
        "    print([d.get_reference_answer(i)['question'] for i in range(3)])\n"
    )
    seen = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in seeds
    ]
    assert len(seen[0].splitlines()) == 3
    assert (seen[0] == seen[1]) is same
