"""Tiny DeepSeek-V3 checkpoints, made by transformers; like published ones, they have nonzero router corrections."""

from __future__ import annotations

import pytest
import torch

from rlx.testing.models import save_char_tokenizer

SHAPE = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 3,
    "first_k_dense_replace": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "n_shared_experts": 1,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_group": 4,
    "topk_group": 2,
    "routed_scaling_factor": 2.5,
    "q_lora_rank": 24,
    # The only sizes that vLLM's latent attention supports on a CPU.
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
    "max_position_embeddings": 512,
    "num_nextn_predict_layers": 0,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 0.7,
    "mscale_all_dim": 1.0,
}
VARIANTS = {
    "v3": {"rope_parameters": YARN},
    "moonlight": {"q_lora_rank": None, "n_group": 1, "topk_group": 1, "n_shared_experts": 2, "rms_norm_eps": 1e-5},
    "odd": {"attention_bias": True, "rope_interleave": False, "norm_topk_prob": False, "tie_word_embeddings": True},
}


@pytest.fixture(scope="module", autouse=True)
def _offline():
    """Forbid downloads and use one thread, for the tests of this folder only."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def config():
    """`config(name, **shape)`: the config of one of VARIANTS."""
    from transformers import DeepseekV3Config

    return lambda name="v3", **shape: DeepseekV3Config(**{**SHAPE, **VARIANTS[name], **shape})


@pytest.fixture(scope="session")
def checkpoint(config, tmp_path_factory):
    """`checkpoint(name, **shape)`: a folder with weights and a tokenizer, made once."""
    from transformers import DeepseekV3ForCausalLM

    made = {}

    def make(name="v3", **shape):
        key = (name, *sorted(shape.items()))
        if key not in made:
            made[key] = tmp_path_factory.mktemp(name)
            torch.manual_seed(7)
            model = DeepseekV3ForCausalLM(config(name, **shape))
            for parameter in model.parameters():
                # Large enough for every part to affect the logits.
                torch.nn.init.normal_(parameter, std=0.1) if parameter.ndim > 1 else parameter.data.add_(
                    0.1 * torch.randn_like(parameter)
                )
            for buffer_name, buffer in model.named_buffers():
                if buffer_name.endswith("e_score_correction_bias"):
                    buffer.normal_(std=0.2)
            model.save_pretrained(made[key])
            save_char_tokenizer(made[key])
        return made[key]

    return make


@pytest.fixture(params=sorted(VARIANTS))
def folder(request, checkpoint):
    """Each variant's checkpoint."""
    return checkpoint(request.param)
