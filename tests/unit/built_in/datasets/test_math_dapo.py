from __future__ import annotations

import json

import pytest

from rlx.datasets.open import make_dataset
from rlx.errors import DatasetError
from rlx_datasets import MathDapoDataset
from rlx_rewards import direct_math_reward_fn

pytestmark = pytest.mark.usefixtures("arrow_cache")

PROBLEM = "A circle has radius $r$.\n\nFind its area over $\\pi r^2$."
ORIGINAL_PROMPT = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    f"$Answer (without quotes) where $Answer is the answer to the problem.\n\n{PROBLEM}\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)


def row(content=ORIGINAL_PROMPT, gold="1"):
    """Return a row as the Hub has it."""
    return {
        "data_source": "math_dapo",
        "prompt": [{"content": content, "role": "user"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": gold, "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": "9a9b6eb4-a1cb-49d1-8c1e-62eaf2f74079"},
    }


def write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    else:
        import datasets

        datasets.Dataset.from_list(rows).to_parquet(path)


@pytest.fixture(params=["train.jsonl", "train.parquet", "folder"])
def location(request, tmp_path):
    rows = [row(), row("Solve the following math problem.\n\nTwo and two?\n\nRemember to put your answer last.", "4")]
    if request.param != "folder":
        write(tmp_path / request.param, rows)
        return str(tmp_path / request.param)
    (tmp_path / "folder" / "data").mkdir(parents=True)
    write(tmp_path / "folder" / "data" / "train-00000.parquet", rows)
    return str(tmp_path / "folder")


def test_prompts_are_unchanged_by_default(location):
    dataset = MathDapoDataset(location)
    assert len(dataset) == 2
    assert dataset[0] == [{"role": "user", "content": ORIGINAL_PROMPT}]
    assert [dataset.get_reference_answer(i) for i in range(2)] == ["1", "4"]
    assert MathDapoDataset(location, chat=False)[0] == f"{ORIGINAL_PROMPT}\n\nSolution:"
    assert len(MathDapoDataset(location, split="train[:1]")) == 1


def test_the_reward_reads_the_reference(location):
    reference = MathDapoDataset(location).get_reference_answer(1)
    assert direct_math_reward_fn("So it is four.\nAnswer: 4", reference) == 1.0
    assert direct_math_reward_fn("So it is five.\nAnswer: 5", reference) == -1.0


def test_a_custom_instruction_replaces_the_original_one(location):
    dataset = MathDapoDataset(location, instruction="Box it.")
    assert dataset[0] == [{"role": "system", "content": "Box it."}, {"role": "user", "content": PROBLEM}]
    assert dataset[1][1]["content"] == "Two and two?"
    assert MathDapoDataset(location, instruction="", chat=False)[1] == "Question: Two and two?\nSolution:"


@pytest.mark.parametrize(
    "content",
    [
        "Two and two?",
        ORIGINAL_PROMPT.partition("\n\n")[2],
        ORIGINAL_PROMPT.rpartition("\n\n")[0],
        "Solve the following math problem",
    ],
)
def test_a_row_without_the_original_instruction_is_named(tmp_path, content):
    write(tmp_path / "rows.jsonl", [row(content)])
    args = {"path": str(tmp_path / "rows.jsonl"), "instruction": "Box it."}
    view = make_dataset(MathDapoDataset, args, None, None, owner="dataset 'math_dapo'")
    with pytest.raises(
        DatasetError, match="row 0 raised ValueError: instruction can replace only what DAPO-Math-17k puts"
    ):
        view.item(0)


def test_rows_of_another_dataset_are_refused(tmp_path):
    write(tmp_path / "rows.jsonl", [{"prompt": "2+2?", "answer": "4"}])
    with pytest.raises(ValueError, match="no columns 'prompt' and 'reward_model'; the columns are: prompt, answer"):
        MathDapoDataset(str(tmp_path / "rows.jsonl"))
