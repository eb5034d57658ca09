from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlx_datasets import Gsm8kDataset
from rlx_rewards import gsm8k_reward_fn

ROW = {"question": "Two and two?", "answer": "2+2 = <<2+2=4>>4\n#### 4"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW) + "\n\n" + json.dumps({**ROW, "question": "Again?", "more": 1}) + "\n")
    return path


def test_rows_of_a_file_as_chat_messages(file):
    dataset = Gsm8kDataset(path=str(file))
    assert len(dataset) == 2
    assert [message["role"] for message in dataset[1]] == ["system", "user"]
    assert "####" in dataset[1][0]["content"]
    assert dataset[1][1]["content"] == "Again?"


def test_a_text_prompt_has_the_instruction_and_the_question(file):
    prompt = Gsm8kDataset(path=str(file), chat=False)[0]
    assert "####" in prompt
    assert prompt.endswith("Question: Two and two?\nAnswer:")


def test_the_reward_reads_the_reference(file):
    reference = Gsm8kDataset(path=str(file)).get_reference_answer(0)
    assert gsm8k_reward_fn("#### 4", reference) == 1.0
    assert gsm8k_reward_fn("#### 5", reference) == 0.0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "line 1 isn.t JSON"),
        ('{"q": 1, "answer": "2"}', "needs 'question' and 'answer', but has: q, answer"),
        ("[1]", "element 1 is not an object: 1"),
    ],
)
def test_an_invalid_line_is_named(tmp_path, line, message):
    (tmp_path / "bad.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=message):
        Gsm8kDataset(path=str(tmp_path / "bad.jsonl"))
