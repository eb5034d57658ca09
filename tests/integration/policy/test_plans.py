"""The tensor-parallel plans of transformers that rlx can follow, and the messages for those that it refuses."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rlx.policy.parallel import transformers_plans as plans

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


def model(kind, **more):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SHAPE, **more))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral", "gemma2"])
def test_common_plans_are_followed(kind):
    assert plans.tensor_parallel_refusal(model(kind), 2) is None


@pytest.mark.parametrize(
    ("kind", "ways", "message"),
    [
        ("olmo2", 2, "its plan has the style 'colwise_gather_output' for model.layers.0.self_attn.q_proj, which rlx"),
        ("qwen3", 4, "tp = 4 does not divide its 2 key-value heads"),
        ("llama", 3, "tp = 3 does not divide its 4 attention heads"),
        ("gpt2", 2, "GPT2LMHeadModel has no tensor-parallel plan"),
    ],
)
def test_plans_that_rlx_cannot_follow_are_refused(kind, ways, message):
    assert plans.tensor_parallel_refusal(model(kind), ways).startswith(message)


def test_a_block_without_a_layer_split_by_rows_is_refused():
    changed = model("qwen3")
    changed.tp_plan = {"model.layers.*.mlp.up_proj": "colwise"}
    expected = "its plan splits model.layers.0.mlp.up_proj by columns, but no other layer of its block by rows"
    assert plans.tensor_parallel_refusal(changed, 2) == expected


def test_a_split_parameter_that_is_not_a_linear_layer_is_refused():
    changed = model("qwen3")
    changed.tp_plan = {**changed.tp_plan, "model.layers.*.self_attn.q_norm.weight": "colwise"}
    expected = "its plan splits model.layers.0.self_attn.q_norm.weight, which isn't a linear layer"
    assert plans.tensor_parallel_refusal(changed, 2) == expected
