from __future__ import annotations

import json

import pytest

from rlx.datasets.open import make_dataset
from rlx.errors import DatasetError
from rlx_datasets import HFDataset

ROWS = [
    {"question": "1+1?", "gold": "2", "chat": [{"role": "user", "content": "1+1?"}]},
    {
        "question": "2+2?",
        "gold": "4",
        "chat": [{"role": "system", "content": "Hm."}, {"role": "user", "content": "2+2?"}],
    },
]


pytestmark = pytest.mark.usefixtures("arrow_cache")


@pytest.fixture
def jsonl(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return file


@pytest.fixture(params=["builder", "file", "folder", "parquet", "saved", "saved_dict"])
def location(request, jsonl, tmp_path):
    """The arguments that load the same rows from each storage format."""
    import datasets

    rows = datasets.Dataset.from_list(ROWS)
    if request.param == "builder":
        return {"path": "json", "data_files": str(jsonl)}
    if request.param == "file":
        return {"path": str(jsonl)}
    if request.param == "folder":
        (tmp_path / "folder").mkdir()
        jsonl.rename(tmp_path / "folder" / "train.jsonl")
        return {"path": str(tmp_path / "folder")}
    if request.param == "parquet":
        rows.to_parquet(tmp_path / "rows.parquet")
        return {"path": str(tmp_path / "rows.parquet")}
    saved = rows if request.param == "saved" else datasets.DatasetDict({"train": rows})
    saved.save_to_disk(tmp_path / "saved")
    return {"path": str(tmp_path / "saved")}


def test_rows_load_from_every_location(location):
    dataset = HFDataset(**location, prompt_column="question", reference_column="gold")
    assert [dataset[i] for i in range(len(dataset))] == ["1+1?", "2+2?"]
    assert [dataset.get_reference_answer(i) for i in range(2)] == ["2", "4"]


def test_without_a_reference_column_the_reference_is_none(jsonl):
    assert HFDataset(str(jsonl), prompt_column="question").get_reference_answer(0) is None


def test_a_system_prompt_makes_conversations_and_keeps_existing_ones(jsonl):
    text = HFDataset(str(jsonl), prompt_column="question", system_prompt="Add.")
    assert text[0] == [{"role": "system", "content": "Add."}, {"role": "user", "content": "1+1?"}]
    chat = HFDataset(str(jsonl), prompt_column="chat", system_prompt="Add.")
    assert [message["content"] for message in chat[0]] == ["Add.", "1+1?"]
    assert [message["content"] for message in chat[1]] == ["Hm.", "2+2?"]


def test_chat_turns_text_into_a_user_message(jsonl):
    assert HFDataset(str(jsonl), prompt_column="question", chat=True)[0] == [{"role": "user", "content": "1+1?"}]
    assert HFDataset(str(jsonl), prompt_column="chat")[0] == [{"role": "user", "content": "1+1?"}]


def test_load_args_reach_load_dataset(jsonl):
    other = jsonl.with_name("other.jsonl")
    other.write_text(jsonl.read_text())
    loaded = HFDataset(
        "json", prompt_column="question", load_args={"data_dir": None}, data_files={"train": [str(jsonl), str(other)]}
    )
    assert len(loaded) == 4
    assert len(HFDataset(str(jsonl), split="train[:1]", prompt_column="question")) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"no column 'prompt' or 'messages'; the columns are: question, gold, chat\. Set prompt_column"),
        ({"prompt_column": "question", "reference_column": "answer"}, r"no column 'answer'; the columns are: question"),
        ({"split": "test"}, "test"),
        ({"path": "parquet", "data_files": "nowhere.parquet"}, "nowhere.parquet"),
    ],
)
def test_errors_name_the_dataset_and_what_exists(jsonl, options, message):
    with pytest.raises(DatasetError, match=f"(?s)dataset 'hf'.*{message}"):
        make_dataset(HFDataset, {"path": str(jsonl), **options}, None, None, owner="dataset 'hf'")


def test_a_missing_split_of_a_saved_dict_lists_the_existing_ones(tmp_path):
    import datasets

    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="no split 'test'; the splits are: train"):
        HFDataset(str(tmp_path / "saved"), split="test")
