"""`rlx init`: a config that fits the files it is given."""

from __future__ import annotations

import json

import pytest
import tomli

from rlx.config.load import validate

ROWS = {
    "question and answer": {"question": "1+1=", "answer": "2"},
    "prompt and solution": {"id": 1, "Prompt": "1+1=", "solution": "2"},
    "messages and label": {"messages": [{"role": "user", "content": "hi"}], "label": "hello"},
    "conversation": {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]},
    "completion": {"prompt": "hi", "completion": "hello"},
    "prompts alone": {"text": "hi"},
    "strange names": {"frage": "hi", "antwort": "hello"},
}


@pytest.fixture
def init(rlx, tmp_path, monkeypatch):
    """`init(row, count, *options)`: the config for a model and a file of rows like this, and its text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    config = {"model_type": "qwen3", "max_position_embeddings": 96, "dtype": "float32"}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))

    def call(row, count=3, *options):
        (tmp_path / "rows.jsonl").write_text(f"{json.dumps(row)}\n" * count)
        code, out, err = rlx("init", "--model", "m", "--dataset", "rows.jsonl", *options)
        assert (code, err) == (0, "")
        return validate(tomli.loads(out), (), "x.toml"), out

    return call


@pytest.mark.parametrize(
    ("name", "algorithm", "prompt", "reference"),
    [
        ("question and answer", "grpo", "question", "answer"),
        ("prompt and solution", "grpo", "Prompt", "solution"),
        ("messages and label", "grpo", "messages", "label"),
        ("conversation", "sft", "messages", None),
        ("completion", "sft", "prompt", None),
        ("prompts alone", "grpo", "text", None),
        ("strange names", "grpo", None, None),
    ],
)
def test_the_columns_and_the_algorithm_follow_from_the_file(init, name, algorithm, prompt, reference):
    config, text = init(ROWS[name])
    assert text.startswith("#:schema ./rlx.schema.json\n")
    args = config.dataset.args
    assert (config.algorithm.name, config.dataset.name, args["path"]) == (algorithm, "jsonl", "rows.jsonl")
    assert (args.get("prompt_column"), args.get("reference_column")) == (prompt, reference)
    assert [reward.name for reward in config.rewards] == (["exact_match"] if algorithm == "grpo" else [])
    assert (config.policy.dtype, config.eval) == ("float32", None)
    assert "chat" not in args, "the model has no chat template"
    if algorithm == "grpo":
        assert config.rollout.max_tokens == 48
    assert ("choose one" in text) == (prompt is None)


def test_a_long_file_is_split_and_a_chat_model_gets_messages(init, tmp_path):
    (tmp_path / "m" / "chat_template.jinja").write_text("{{ messages }}")
    config, _ = init(ROWS["question and answer"], 40)
    assert config.dataset.args["chat"] is True
    assert config.eval is not None
    assert config.eval.dataset.args == {**config.dataset.args, "split": "train[95%:]"}
    assert config.dataset.args["split"] == "train[:95%]"


@pytest.mark.parametrize("dataset", ["arithmetic", "gsm8k", "countdown", "owner/name"])
def test_plugins_and_names_on_the_hub_are_named_as_a_config_does(rlx, dataset):
    code, out, err = rlx("init", "--dataset", dataset)
    assert (code, err) == (0, "")
    config = validate(tomli.loads(out), (), "x.toml")
    assert config.model.path == "Qwen/Qwen3-0.6B"
    assert (config.dataset.name, config.dataset.args.get("path")) == (
        ("hf", dataset) if "/" in dataset else (dataset, None)
    )


def test_files_of_code_are_relative_to_the_config_which_gets_its_schema(rlx, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "score.py").write_text("")
    (tmp_path / "configs").mkdir()
    args = ("--dataset", "arithmetic", "--reward", "score.py:close", "--output", "configs/x.toml")
    code, out, _ = rlx("init", *args)
    assert code == 0
    assert "rlx check configs/x.toml" in out
    written = tomli.loads((tmp_path / "configs" / "x.toml").read_text())
    assert written["rewards"] == [{"name": "../score.py:close"}]
    assert "properties" in json.loads((tmp_path / "configs" / "rlx.schema.json").read_text())
    code, _, err = rlx("init", *args)
    assert (code, "exists already" in err) == (2, True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model", "./absent"], "--model ./absent: the folder does not exist"),
        (["--dataset", "absent.jsonl"], "--dataset absent.jsonl: it does not exist"),
        (["--dataset", "x.docx"], "neither a file, nor a dataset of an installed plugin"),
        (["--dataset", "empty.jsonl"], "empty.jsonl"),
        (["--dataset", "broken.jsonl"], "broken.jsonl can't be read"),
        (["--dataset", "notes.md"], "rlx reads files that end with .jsonl"),
        (["--reward", "exact_mach"], "Did you mean 'exact_match'?"),
        (["--reward", "./absent.py:score"], "the file ./absent.py does not exist"),
        (["--reward", "score.py"], "say which function of the file"),
    ],
)
def test_something_that_is_not_there_is_named(rlx, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    for name, text in (("empty.jsonl", ""), ("broken.jsonl", "{\n"), ("notes.md", "x")):
        (tmp_path / name).write_text(text)
    code, _, err = rlx("init", *args)
    assert (code, message in err) == (2, True), err
