"""rlx-plugin-deepseek with two ranks and a real engine: SFT by its launch script, then GRPO found by `model_type`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rlx.testing.models import save_char_tokenizer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PROJECT = Path(__file__).parent / "project"
QUIET = {"run.loggers": '["console", "jsonl"]', "eval.limit": 2}
LATENT_DIFFERENCE = 0.0065
"""The largest log-probability difference of vLLM's latent attention on a CPU to transformers, in float32."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model of 0.4M parameters with a latent of 512 and 64 rotary dimensions, as vLLM's latent attention requires."""
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    folder = tmp_path_factory.mktemp("deepseek")
    config = DeepseekV3Config(
        vocab_size=128,
        hidden_size=64,
        intermediate_size=128,
        moe_intermediate_size=32,
        num_hidden_layers=3,
        first_k_dense_replace=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        n_routed_experts=8,
        num_experts_per_tok=2,
        n_group=4,
        topk_group=2,
        q_lora_rank=None,
        kv_lora_rank=512,
        qk_rope_head_dim=64,
        qk_nope_head_dim=32,
        v_head_dim=32,
        max_position_embeddings=128,
        num_nextn_predict_layers=0,
        scoring_func="sigmoid",
        topk_method="noaux_tc",
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    DeepseekV3ForCausalLM(config).save_pretrained(folder)
    save_char_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def sft(start_in, tiny):
    settings = {
        "model.path": tiny,
        "plugins.enable": '[{name = "deepseek_bias_update", args = {bias_rate = 0.01}}]',
        "policy.gradient_checkpointing": "true",
    }
    run = start_in(PROJECT, ["sft.toml", "rlx_plugin_deepseek.moonlight_launcher"], **QUIET, **settings)
    run.wait()
    return run


def test_the_launch_script_trains_the_model(sft):
    assert sft.process.returncode == 0, sft.output
    losses = [line["loss"] for line in sft.metrics()]
    assert losses[-1] < 0.8 * losses[0]
    assert "switched off" not in sft.log("policy")  # rows are packed, and logits come in chunks
    assert "ModelRegistry.register_model" in (sft.dir / "plugins.json").read_text()


def test_the_load_of_experts_is_reported(sft):
    for line in sft.metrics():
        assert line["experts/max_violation"] > 0
        assert 0 <= line["experts/idle"] < 1


def test_the_export_is_a_deepseek(sft, tiny):
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    exported, report = AutoModelForCausalLM.from_pretrained(
        sft.dir / "export", dtype=torch.float32, output_loading_info=True
    )
    assert type(exported).__name__ == "DeepseekV3ForCausalLM"
    assert not any(report.values()), report
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny, sft.dir / "export"))
    assert not [name for name in before if torch.equal(before[name], after[name])]
    bias = after["model.layers.1.mlp.gate.e_score_correction_bias"]
    # Eight steps, each 0.01 up or down.
    assert bias.abs().max() <= 0.0801
    assert bias.std() > 0.005
    assert torch.allclose(bias, (bias / 0.01).round() * 0.01, atol=1e-6)


def test_grpo_finds_the_plugin_by_model_type(start_in, sft, quick_engine):
    settings = {
        "model.path": sft.dir / "export",
        "run.steps": 2,
        "algorithm.args": "{}",
        "policy.groups_per_step": 4,
        "plugins.enable": '["deepseek_expert_load"]',
        "sync.max_logprob_diff": LATENT_DIFFERENCE,
        **quick_engine,
    }
    run = start_in(PROJECT, ["rl.toml"], **{**QUIET, **settings})
    assert run.wait() == 0, run.output
    assert run.summary["groups/trained"] == 8
    assert run.summary["sync/logprob_diff_max"] <= LATENT_DIFFERENCE
    assert all("experts/idle" in line for line in run.metrics())
    assert '"deepseek_v3"' in (run.dir / "plugins.json").read_text()
    assert not run.survivors()
