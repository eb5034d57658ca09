"""Which models are plain, and that a checkpoint of another shape isn't one; integration/policy compares the tensors."""

from __future__ import annotations

import json

import pytest

from rlx.models.plain import plain_model

QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": 10,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 32,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "layer_types": ["full_attention", "full_attention"],
    "attention_dropout": 0.0,
    "eos_token_id": [1, 2],
    "pad_token_id": 0,
    "bos_token_id": None,
    "sliding_window": None,
    "use_sliding_window": False,
    "max_window_layers": 28,
}


def _plain(tmp_path, **changes):
    config = {key: value for key, value in {**QWEN3, **changes}.items() if value != "absent"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return plain_model(tmp_path)


def test_the_tensors_are_those_counted_by_hand(tmp_path):
    model = _plain(tmp_path)
    assert len(model.tensors) == 2 * 11 + 2
    assert model.tensors["model.layers.1.self_attn.q_proj.weight"] == (24, 8)
    assert model.tensors["model.layers.1.self_attn.k_norm.weight"] == (6,)
    assert model.layer_parameters == 2 * 8 + 2 * 6 + 2 * 24 * 8 + 2 * 12 * 8 + 3 * 12 * 8
    assert model.other_parameters == 10 * 8 + 8
    assert _plain(tmp_path, tie_word_embeddings=False).other_parameters == 2 * 10 * 8 + 8


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "gemma"},
        {"model_type": 3},
        {"architectures": ["LlamaForCausalLM"]},
        {"architectures": None},
        {"architectures": "absent"},
        {"hidden_act": "gelu"},
        {"head_dim": "absent"},
        {"head_dim": -1},
        {"num_key_value_heads": 3},
        {"num_attention_heads": 3, "num_key_value_heads": 3},
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": True},
        {"vocab_size": "10"},
        {"vocab_size": 0},
        {"attention_bias": True},
        {"attention_dropout": 0.1},
        {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "dynamic", "factor": 2.0}},
        {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default", "partial_rotary_factor": 0.5}},
        {"rope_parameters": None},
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"layer_types": ["full_attention"]},
        {"sliding_window": 16, "use_sliding_window": True},
        {"sliding_window": 16, "use_sliding_window": "absent"},
        {"pad_token_id": 10},
        {"pad_token_id": -1},
        {"eos_token_id": "1"},
        {"quantization_config": {}},
        {"auto_map": {}},
        {"a_key_of_tomorrow": 1},
        {"tie_word_embeddings": "absent"},
        {"max_position_embeddings": "absent"},
        {"dtype": "float8"},
        {"rms_norm_eps": 0},
    ],
)
def test_any_other_setting_makes_a_model_not_plain(tmp_path, changes):
    assert _plain(tmp_path) is not None
    assert _plain(tmp_path, **changes) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"'])
def test_a_damaged_config_is_not_plain(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert plain_model(tmp_path) is None
    assert plain_model(tmp_path / "nowhere") is None


def test_only_exactly_its_tensors_fit(tmp_path):
    model = _plain(tmp_path)
    headers = [(name, "BF16", list(shape)) for name, shape in model.tensors.items()]
    assert model.fits(headers)
    assert model.fits([(name, "F32", shape) for name, _, shape in reversed(headers)])
    assert not model.fits(headers[1:])
    assert not model.fits([*headers, headers[0]])
    assert not model.fits([*headers, ("lm_head.weight", "BF16", [10, 8])])
    assert not model.fits([*headers[1:], (headers[0][0], "BF16", [11, 8])])
    assert not model.fits([*headers[1:], (headers[0][0], "F8_E4M3", headers[0][2])])
    assert not model.fits([])
