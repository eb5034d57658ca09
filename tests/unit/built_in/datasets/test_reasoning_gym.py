from __future__ import annotations

import subprocess
import sys

import pytest

from rlx.datasets.open import make_dataset
from rlx.errors import DatasetError, UsageError
from rlx_datasets import ReasoningGymDataset

pytest.importorskip("reasoning_gym")


def rows(dataset):
    return [(dataset[i], dataset.get_reference_answer(i)) for i in range(len(dataset))]


def questions(dataset):
    return [dataset.get_reference_answer(i)["question"] for i in range(len(dataset))]


def test_rows_equal_those_of_the_package():
    from reasoning_gym.factory import create_dataset

    dataset = ReasoningGymDataset("chain_sum", size=4, seed=7, options={"min_terms": 3, "max_terms": 3})
    theirs = create_dataset("chain_sum", size=4, seed=7, min_terms=3, max_terms=3)
    assert questions(dataset) == [theirs[i]["question"] for i in range(4)]
    assert dataset[2][1] == {"role": "user", "content": theirs[2]["question"]}
    assert "<answer>" in dataset[2][0]["content"]
    assert dataset.get_reference_answer(2)["index"] == 2


def test_text_prompts_with_a_custom_instruction():
    dataset = ReasoningGymDataset("gcd", size=1, chat=False, instruction="Think.")
    assert dataset[0] == f"Think.\n\nQuestion: {questions(dataset)[0]}\nAnswer:"


def test_several_tasks_take_turns():
    dataset = ReasoningGymDataset(["gcd", "lcm", "leg_counting"], size=7)
    references = [reference for _, reference in rows(dataset)]
    assert [reference["task"] for reference in references] == ["gcd", "lcm", "leg_counting"] * 2 + ["gcd"]
    assert [reference["index"] for reference in references] == [0, 0, 0, 1, 1, 1, 2]
    assert questions(dataset)[::3] == questions(ReasoningGymDataset("gcd", size=3))


def test_held_out_rows_have_their_own_seeds():
    train = questions(ReasoningGymDataset("word_sorting", size=50))
    assert questions(ReasoningGymDataset("word_sorting", size=49, seed=1)) == train[1:]
    assert not set(train) & set(questions(ReasoningGymDataset("word_sorting", split="eval", size=50)))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"task": "chain_sums"}, "no task 'chain_sums'. Did you mean 'chain_sum'?.*The tasks are: ab, acre"),
        ({"task": "composite"}, "no task 'composite'"),
        ({"task": []}, "task is an empty list"),
        ({"task": ["gcd", "lcm"], "options": {"min_value": 3}}, "options need a single task, but there are 2"),
        ({"task": "gcd", "options": {"seed": 3}}, "seed and size are set next to options"),
        ({"task": "gcd", "options": {"min_valeu": 3}}, "unexpected keyword argument 'min_valeu'"),
        ({"task": "gcd", "split": "eval", "seed": 2**31}, "at most 2147483648"),
        ({"task": "gcd", "size": 0}, "size must be at least 1"),
    ],
)
def test_errors_name_the_invalid_argument(args, message):
    with pytest.raises(DatasetError, match=message):
        make_dataset(ReasoningGymDataset, args, None, None)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(UsageError, match=r"pip install 'rlx\[reasoning-gym\]'"):
        ReasoningGymDataset("gcd")


def test_the_package_is_imported_only_when_a_dataset_is_made():
    code = (
        "import sys, rlx_datasets.reasoning_gym, rlx_rewards.reasoning_gym\n"
        "from rlx_datasets import ReasoningGymDataset\n"
        "from rlx_rewards import reasoning_gym_reward_fn\n"
        "print({'reasoning_gym', 'matplotlib', 'sympy'} & set(sys.modules))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
