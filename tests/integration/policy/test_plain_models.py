"""The shortcuts of `rlx check` against transformers itself: plain models, and classes of tokenizers."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from rlx.config.sections.model import ModelConfig
from rlx.models.plain import plain_model
from rlx.packers.tokenizer import load_tokenizer
from rlx.policy.parallel.tensors import aliases, named_tensors
from rlx.preflight.checks.model import ModelSize
from rlx.testing.models import make_char_model

SHAPES = [
    {"model_type": "llama"},
    {"model_type": "llama", "head_dim": 24, "num_key_value_heads": 1, "tie_word_embeddings": True},
    {"model_type": "llama", "num_hidden_layers": 1, "rope_theta": 5e5},
    {"model_type": "qwen2"},
    {"model_type": "qwen2", "tie_word_embeddings": True, "num_key_value_heads": 4},
    {"model_type": "qwen3", "head_dim": 32},
    {"model_type": "qwen3", "head_dim": 8, "tie_word_embeddings": True, "vocab_size": 151, "num_hidden_layers": 5},
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape.values())))
def test_a_plain_models_tensors_are_those_that_transformers_makes(tmp_path, shape):
    kind, sizes = shape["model_type"], {"vocab_size": 100, "hidden_size": 64, "intermediate_size": 48}
    heads = {"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    settings = {**sizes, **heads, "eos_token_id": 1, "bos_token_id": None, "pad_token_id": 0} | shape
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    config.architectures = [f"{kind.capitalize()}ForCausalLM"]
    config.save_pretrained(tmp_path)
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))
    expected = {name: tuple(tensor.shape) for name, tensor in named_tensors(network).items()}
    plain = plain_model(tmp_path)
    assert plain is not None
    assert plain.tensors == expected
    assert bool(aliases(network)) == config.tie_word_embeddings
    layer, others = plain.layer_parameters, plain.other_parameters
    assert ModelSize(plain.layers * layer + others, layer, others) == ModelSize.of(network)


@pytest.mark.parametrize(
    ("model_type", "tokenizer_class"),
    [
        ("qwen3", "TokenizersBackend"),
        ("qwen3", "PreTrainedTokenizerFast"),
        ("qwen3", "Qwen2Tokenizer"),
        ("qwen3", "Qwen2TokenizerFast"),
        ("qwen2", "Qwen2Tokenizer"),
        ("llama", "TokenizersBackend"),
        ("llama", "PreTrainedTokenizerFast"),
        ("qwen2", "TokenizersBackend"),
        ("llama", "LlamaTokenizer"),
        ("mistral", "TokenizersBackend"),
    ],
)
def test_a_tokenizer_has_the_class_and_the_tokens_that_auto_tokenizer_gives_it(tmp_path, model_type, tokenizer_class):
    folder = make_char_model(tmp_path / "model", num_hidden_layers=1, hidden_size=32, intermediate_size=32)
    for name, change in (
        ("config", {"model_type": model_type}),
        ("tokenizer_config", {"tokenizer_class": tokenizer_class}),
    ):
        file = folder / f"{name}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    expected, found = AutoTokenizer.from_pretrained(folder), load_tokenizer(ModelConfig(path=str(folder)))
    assert type(found) is type(expected)
    text = "12+34=46 <eos> abc\n"
    assert found.encode(text) == expected.encode(text)
    assert found.special_tokens_map == expected.special_tokens_map
    assert (len(found), found.chat_template) == (len(expected), expected.chat_template)
