from __future__ import annotations

import json

import pytest

from rlx.config.sections.model import ModelConfig
from rlx.errors import UsageError
from rlx.packers.tokenizer import load_tokenizer


def test_the_tokenizer_of_the_model_folder_is_loaded(folder):
    tokenizer = load_tokenizer(ModelConfig(path=str(folder)))
    assert tokenizer.decode(tokenizer.encode("1+1=")) == "1+1="


def test_the_tokenizer_and_chat_template_may_be_overridden(folder):
    tokenizer = load_tokenizer(ModelConfig(path="no/such-model", tokenizer=str(folder), chat_template="{{ 'fixed' }}"))
    assert tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == "fixed"


@pytest.mark.parametrize("with_config", [True, False])
def test_a_folder_without_a_tokenizer_is_an_error(tmp_path, with_config):
    if with_config:  # transformers makes an empty tokenizer from a config alone
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    with pytest.raises(
        UsageError, match=r"(?s)No tokenizer could be loaded from .*set model\.tokenizer to another folder or Hub name"
    ):
        load_tokenizer(ModelConfig(path=str(tmp_path)))


@pytest.mark.parametrize("path", ["/no/such/folder", "./nowhere", "../nowhere"])
def test_a_missing_folder_is_an_error(path):
    with pytest.raises(UsageError, match=f"The folder '{path}' does not exist"):
        load_tokenizer(ModelConfig(path=path))
