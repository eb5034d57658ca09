from __future__ import annotations

import json

import numpy
import pytest
from safetensors.numpy import save_file

from rlx.earlier.generate import Ask, generate
from rlx.errors import UsageError


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--n", "0"], "--n and --max-tokens must be at least 1"),
        (["--max-tokens", "0"], "--n and --max-tokens must be at least 1"),
        (["--temperature", "0.001"], "it must be 0 (greedy), or from 0.01 to 100"),
        (["--temperature", "-1"], "it must be 0 (greedy), or from 0.01 to 100"),
        ([], "the folder './absent' does not exist"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_an_engine_starts(monkeypatch, capsys, args, message):
    from rlx_cli.main import main

    monkeypatch.setattr("sys.argv", ["rlx", "generate", "./absent", "hi", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (Ask("x" * 60), "The prompt has 60 tokens, and the model's context is 32"),
        (Ask(""), "The prompt is empty"),
        (Ask("hi", chat=True), "no chat template"),
    ],
)
def test_a_prompt_that_the_model_cannot_read_is_refused_before_an_engine_starts(bare_tokenizer, tmp_path, ask, message):
    bare_tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3", "max_position_embeddings": 32}))
    save_file({"x": numpy.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match=message):
        generate(str(tmp_path), ask)


def test_a_run_without_a_checkpoint_has_nothing_to_sample_from(ended):
    with pytest.raises(UsageError, match="has no checkpoint"):
        generate(str(ended([])), Ask("hi"))
