"""Loading and exporting a policy from an FP8 checkpoint (through rlx-plugin-deepseek)."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlx.config.sections.model import ModelConfig
from rlx.config.sections.policy import PolicyConfig
from rlx.policy.build import build_policy, parameters_on_meta
from rlx.policy.train.optimizer import Optimizer
from rlx.policy.weights.export import ExportSource, export, in_source_dtypes, write_folder
from rlx.policy.weights.hf_folder import load_hf_config
from rlx.policy.weights.saved_weights import SavedWeights
from rlx.policy.weights.writer import save
from rlx_plugin_deepseek.plugin import plugin


@pytest.fixture
def quantised(tmp_path):
    """The folder of a checkpoint with FP8 projections, all of the scale 0.5, and its dequantised tensors."""
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    config = DeepseekV3Config(
        vocab_size=128,
        hidden_size=32,
        intermediate_size=48,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        first_k_dense_replace=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        q_lora_rank=None,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
        num_nextn_predict_layers=0,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    DeepseekV3ForCausalLM(config).bfloat16().save_pretrained(tmp_path)
    tensors, dequantised = load_file(tmp_path / "model.safetensors"), {}
    for name, tensor in list(tensors.items()):
        dequantised[name] = tensor
        if name.endswith("_proj.weight"):
            tensors[name] = (2 * tensor.float()).to(torch.float8_e4m3fn)
            tensors[f"{name}_scale_inv"] = torch.full((1, 1), 0.5)
            dequantised[name] = (tensors[name].float() / 2).bfloat16()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config_json = json.loads((tmp_path / "config.json").read_text())
    fp8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    (tmp_path / "config.json").write_text(json.dumps({**config_json, "quantization_config": fp8}))
    return tmp_path, dequantised


def test_an_export_is_the_same_model_without_quantisation(world, quantised, tmp_path):
    from transformers import AutoModelForCausalLM

    folder, dequantised = quantised
    config = load_hf_config(ModelConfig(path=str(folder)), folder)
    built = build_policy(plugin, config, folder, world, PolicyConfig(dtype="float32"), 1.0)
    export(built, tmp_path / "export", writes=True, tokenizer=None, chat_template=None)
    optimizer = Optimizer(dict(built.network.named_parameters()), PolicyConfig().optimizer, 10)
    save(tmp_path / "saved", world, built, optimizer, 3)
    with parameters_on_meta():
        weights = SavedWeights(tmp_path / "saved", plugin.build(config, dtype=torch.float32), built.mapper)
    assert weights.step == 3
    write_folder(tmp_path / "again", in_source_dtypes(weights.buckets(), folder), ExportSource(folder))
    for path in (tmp_path / "export").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name
    seen = load_file(tmp_path / "export" / "model.safetensors")
    assert {name: tensor.dtype for name, tensor in seen.items()} == {name: t.dtype for name, t in dequantised.items()}
    assert not [name for name, tensor in seen.items() if not torch.equal(tensor, dequantised[name])]
    model, report = AutoModelForCausalLM.from_pretrained(tmp_path / "export", output_loading_info=True)
    assert not any(report.values()), report
    assert getattr(model.config, "quantization_config", None) is None
