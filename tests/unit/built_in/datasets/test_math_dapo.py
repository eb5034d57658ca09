from __future__ import annotations

import json

import pytest

from rlx.datasets.open import make_dataset
from rlx.errors import DatasetError
from rlx_datasets import MathDapoDataset
from rlx_rewards import direct_math_reward_fn

pytestmark = pytest.mark.usefixtures("arrow_cache")

PROBLEM = "A circle has radius $r$.\n\nFind its area over $\\pi r^2$."
ASKED = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    f"$Answer (without quotes) where $Answer is the answer to the problem.\n\n{PROBLEM}\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)


def row(content=ASKED, gold="1"):
    """As the Hub has them."""
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
def place(request, tmp_path):
    rows = [row(), row("Solve the following math problem.\n\nTwo and two?\n\nRemember to put your answer last.", "4")]
    if request.param != "folder":
        write(tmp_path / request.param, rows)
        return str(tmp_path / request.param)
    (tmp_path / "folder" / "data").mkdir(parents=True)
    write(tmp_path / "folder" / "data" / "train-00000.parquet", rows)
    return str(tmp_path / "folder")


def test_rows_are_asked_as_they_are(place):
    dataset = MathDapoDataset(place)
    assert len(dataset) == 2
    assert dataset[0] == [{"role": "user", "content": ASKED}]
    assert [dataset.get_reference_answer(i) for i in range(2)] == ["1", "4"]
    assert MathDapoDataset(place, chat=False)[0] == f"{ASKED}\n\nSolution:"
    assert len(MathDapoDataset(place, split="train[:1]")) == 1


def test_the_reference_is_what_its_reward_reads(place):
    reference = MathDapoDataset(place).get_reference_answer(1)
    assert direct_math_reward_fn("So it is four.\nAnswer: 4", reference) == 1.0
    assert direct_math_reward_fn("So it is five.\nAnswer: 5", reference) == -1.0


def test_an_instruction_of_your_own_replaces_theirs(place):
    dataset = MathDapoDataset(place, instruction="Box it.")
    assert dataset[0] == [{"role": "system", "content": "Box it."}, {"role": "user", "content": PROBLEM}]
    assert dataset[1][1]["content"] == "Two and two?"
    assert MathDapoDataset(place, instruction="", chat=False)[1] == "Question: Two and two?\nSolution:"


@pytest.mark.parametrize(
    "content",
    ["Two and two?", ASKED.partition("\n\n")[2], ASKED.rpartition("\n\n")[0], "Solve the following math problem"],
)
def test_where_there_is_nothing_to_replace_the_row_is_named(tmp_path, content):
    write(tmp_path / "rows.jsonl", [row(content)])
    args = {"path": str(tmp_path / "rows.jsonl"), "instruction": "Box it."}
    view = make_dataset(MathDapoDataset, args, None, None, owner="dataset 'math_dapo'")
    with pytest.raises(
        DatasetError, match="row 0 raised ValueError: instruction can replace only what DAPO-Math-17k puts"
    ):
        view.item(0)


def test_other_rows_are_refused(tmp_path):
    write(tmp_path / "rows.jsonl", [{"prompt": "2+2?", "answer": "4"}])
    with pytest.raises(ValueError, match="no columns 'prompt' and 'reward_model'; the columns are: prompt, answer"):
        MathDapoDataset(str(tmp_path / "rows.jsonl"))
