"""Tiny random models of many architectures, made on the spot from the config classes of transformers.

Rules:

* Each has two layers and what is special about its architecture: windows of 16 tokens, caps that bite, multipliers
  other than 1, dropout where its config class has it by default.
* Head sizes and shapes are ones that vLLM's CPU kernels take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from rlx.testing.models import save_char_tokenizer

SPREAD = 3.0
"""Factor of every initial matrix: log-probabilities then differ clearly from token to token."""
_TOKENS = {"vocab_size": 128, "eos_token_id": 1, "pad_token_id": 0, "bos_token_id": None}
_SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    **_TOKENS,
}
_GQA = {**_SHAPE, "num_key_value_heads": 2}
_HEADS = {**_GQA, "head_dim": 32}
_GPT2 = {"n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 256, **_TOKENS}
_HALF_WINDOW = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
_MULTIPLIERS = {
    "embedding_multiplier": 2.0,
    "logits_scaling": 1.5,
    "residual_multiplier": 0.5,
    "attention_multiplier": 0.25,
}
_LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}


def _rope(kind: str, **options: object) -> dict[str, object]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **options}}


_YARN = _rope("yarn", factor=4.0, original_max_position_embeddings=64, beta_fast=32.0, beta_slow=1.0)
_LONGROPE = {
    "original_max_position_embeddings": 64,
    **_rope(
        "longrope",
        short_factor=[1 + i / 16 for i in range(16)],
        long_factor=[2 + i / 4 for i in range(16)],
        original_max_position_embeddings=64,
        partial_rotary_factor=1.0,
    ),
}

CONFIGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "qwen3": ("Qwen3Config", _HEADS),
    "qwen3 (vocabulary of 151, tied)": ("Qwen3Config", {**_HEADS, "vocab_size": 151, "tie_word_embeddings": True}),
    "qwen3 (head size 16)": ("Qwen3Config", {**_HEADS, "head_dim": 16}),
    "qwen2": ("Qwen2Config", _GQA),
    "qwen2 (all layers with windows)": (
        "Qwen2Config",
        {**_GQA, "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0},
    ),
    "qwen2 (max_window_layers of 1)": (
        "Qwen2Config",
        {**_GQA, "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    ),
    "llama": ("LlamaConfig", _GQA),
    "llama (attention_dropout, biases)": (
        "LlamaConfig",
        {**_GQA, "attention_dropout": 0.1, "attention_bias": True, "mlp_bias": True},
    ),
    "llama (yarn)": ("LlamaConfig", {**_GQA, **_YARN}),
    "llama (llama3 rope)": (
        "LlamaConfig",
        {
            **_GQA,
            **_rope(
                "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64
            ),
        },
    ),
    "llama (linear rope)": ("LlamaConfig", {**_GQA, **_rope("linear", factor=2.0)}),
    "llama (dynamic NTK)": ("LlamaConfig", {**_GQA, **_rope("dynamic", factor=2.0)}),
    "mistral (window)": ("MistralConfig", {**_HEADS, "sliding_window": 16}),
    "mixtral": ("MixtralConfig", {**_GQA, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "phi": ("PhiConfig", _SHAPE),
    "phi3": ("Phi3Config", _GQA),
    "phi3 (longrope)": ("Phi3Config", {**_GQA, **_LONGROPE}),
    "gemma": ("GemmaConfig", _HEADS),
    "gemma2": (
        "Gemma2Config",
        {
            **_HEADS,
            **_HALF_WINDOW,
            "query_pre_attn_scalar": 32,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma3_text": ("Gemma3TextConfig", {**_HEADS, **_HALF_WINDOW, "query_pre_attn_scalar": 32}),
    "cohere": ("CohereConfig", {**_GQA, "use_qk_norm": True, "logit_scale": 1.0}),
    "cohere2": ("Cohere2Config", {**_HEADS, **_HALF_WINDOW, "logit_scale": 1.0}),
    "olmo2": ("Olmo2Config", _GQA),
    "olmo3": ("Olmo3Config", {**_GQA, **_HALF_WINDOW}),
    "olmoe": ("OlmoeConfig", {**_GQA, "num_experts": 4, "num_experts_per_tok": 2}),
    "granite": ("GraniteConfig", {**_GQA, **_MULTIPLIERS}),
    "granitemoe": ("GraniteMoeConfig", {**_GQA, **_MULTIPLIERS, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "smollm3": ("SmolLM3Config", _GQA),
    "exaone4": ("Exaone4Config", {**_HEADS, **_HALF_WINDOW}),
    "glm4": ("Glm4Config", _HEADS),
    "glm4_moe": (
        "Glm4MoeConfig",
        {
            **_HEADS,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 64,
            "first_k_dense_replace": 1,
            "n_group": 1,
            "topk_group": 1,
        },
    ),
    "qwen2_moe": ("Qwen2MoeConfig", {**_GQA, **_EXPERTS, "shared_expert_intermediate_size": 64}),
    "qwen3_moe": ("Qwen3MoeConfig", {**_HEADS, **_EXPERTS}),
    "gpt_oss": (
        "GptOssConfig",
        {**_HEADS, **_HALF_WINDOW, **_YARN, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "gpt_neox": ("GPTNeoXConfig", _SHAPE),
    "gpt2": ("GPT2Config", _GPT2),
    "gpt_bigcode": ("GPTBigCodeConfig", _GPT2),
    "gptj": ("GPTJConfig", {**_GPT2, "rotary_dim": 16}),
    "opt": (
        "OPTConfig",
        {
            "hidden_size": 128,
            "ffn_dim": 192,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "word_embed_proj_dim": 128,
            "max_position_embeddings": 256,
            **_TOKENS,
        },
    ),
    "bloom": ("BloomConfig", {"hidden_size": 128, "n_layer": 2, "n_head": 4, **_TOKENS}),
    "falcon": (
        "FalconConfig",
        {
            "hidden_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_kv_heads": 2,
            "max_position_embeddings": 256,
            "new_decoder_architecture": True,
            **_TOKENS,
        },
    ),
    "starcoder2": ("Starcoder2Config", _GQA),
    "stablelm": ("StableLmConfig", _GQA),
    "nemotron": ("NemotronConfig", _GQA),
    "ernie4_5": ("Ernie4_5Config", _HEADS),
    "seed_oss": ("SeedOssConfig", _HEADS),
    "hunyuan_v1_dense": ("HunYuanDenseV1Config", _HEADS),
    "arcee": ("ArceeConfig", _GQA),
    "apertus": ("ApertusConfig", _GQA),
    "lfm2": (
        "Lfm2Config",
        {
            **_GQA,
            "layer_types": ["conv", "full_attention"],
            "block_auto_adjust_ff_dim": False,
            "conv_dim": 128,
            "block_dim": 128,
        },
    ),
    "qwen3_next": ("Qwen3NextConfig", {**_HEADS, **_LINEAR, **_EXPERTS, "shared_expert_intermediate_size": 64}),
    "qwen3_5_text": ("Qwen3_5TextConfig", {**_HEADS, **_LINEAR}),
    "deepseek_v3 (rlx-plugin-deepseek)": (
        "DeepseekV3Config",
        {
            **_SHAPE,
            "num_key_value_heads": 4,
            "q_lora_rank": 64,
            "kv_lora_rank": 512,
            "qk_rope_head_dim": 64,
            "qk_nope_head_dim": 32,
            "v_head_dim": 32,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 64,
            "first_k_dense_replace": 1,
            "n_group": 1,
            "topk_group": 1,
            "topk_method": "noaux_tc",
            "scoring_func": "sigmoid",
        },
    ),
}
"""Name in the table of docs/models.md -> config class of transformers, and its arguments."""


def make_model(name: str, folder: Path) -> None:
    """Write the model's config, random float32 weights and a tokenizer of characters to `folder`."""
    cls, options = CONFIGS[name]
    make_config: Callable[..., Any] = getattr(transformers, cls)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(make_config(**options))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(SPREAD)
    model.save_pretrained(folder)
    save_char_tokenizer(folder, vocab_size=options["vocab_size"])
