"""DeepSeek-V3's language model: latent attention; dense layers first, then mixtures of experts.

It is plain PyTorch with its own tensor names (the table is in `weight_mapper`). rlx adds packed rows, chunked logits,
recomputation and sharding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

import rlx
from rlx import Attention, UsageError, causal_attention
from rlx_plugin_deepseek.attention import LatentAttention
from rlx_plugin_deepseek.balance import Balance
from rlx_plugin_deepseek.experts import Experts
from rlx_plugin_deepseek.feed_forward import Dense, Mixture
from rlx_plugin_deepseek.rotary import frequencies
from rlx_plugin_deepseek.router import Router

_ONLY = {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1, "hidden_act": "silu"}
"""Config keys of which only one value is supported."""


class Block(nn.Module):
    def __init__(self, config: Any, *, dense: bool) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.attention = LatentAttention(config)
        self.feed_forward_norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.feed_forward = Dense(config.hidden_size, config.intermediate_size) if dense else Mixture(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attention: Attention) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin, attention)
        y: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return y


class DeepseekV3MoEModel(rlx.BaseModel):
    """DeepSeek-V3, DeepSeek-R1, Moonlight: models whose config.json has model_type `deepseek_v3`."""

    frequencies: Tensor
    balance: Balance | None = None
    """Measures and balances the experts' load; set by this plugin's hooks."""

    def __init__(self, hf_config: Any) -> None:
        super().__init__(hf_config)
        _check(hf_config)
        self.embedding = nn.Embedding(hf_config.vocab_size, hf_config.hidden_size)
        self.blocks = nn.ModuleList(
            Block(hf_config, dense=layer < hf_config.first_k_dense_replace)
            for layer in range(hf_config.num_hidden_layers)
        )
        self.final_norm = nn.RMSNorm(hf_config.hidden_size, eps=hf_config.rms_norm_eps)
        self.head = nn.Linear(hf_config.hidden_size, hf_config.vocab_size, bias=False)
        if hf_config.tie_word_embeddings:
            self.head.weight = self.embedding.weight
        rope, context = hf_config.rope_parameters, hf_config.max_position_embeddings
        angles, self.magnitude = frequencies(rope, hf_config.qk_rope_head_dim, context)
        self.register_buffer("frequencies", angles, persistent=False)  # not in checkpoints

    @staticmethod
    def supported_model_types() -> list[str]:
        return ["deepseek_v3"]

    def hidden_states(self, input_ids: Tensor, position_ids: Tensor, attention: Attention = causal_attention) -> Tensor:
        x: Tensor = self.embedding(input_ids)
        angles = position_ids[:, None, :, None] * self.frequencies  # [B, 1, L, D / 2]
        cos, sin = (angles.cos() * self.magnitude).to(x.dtype), (angles.sin() * self.magnitude).to(x.dtype)
        for block in self.blocks:
            x = block(x, cos, sin, attention)
        normed: Tensor = self.final_norm(x)
        return normed

    def input_embedding(self) -> nn.Module:
        return self.embedding

    def output_embedding(self) -> nn.Module:
        return self.head

    def decoder_layers(self) -> nn.ModuleList:
        return self.blocks

    def parallelize(self, mesh: DeviceMesh) -> None:
        for kind, name in ((LatentAttention, "tp"), (Experts, "ep")):
            if mesh[name].size() > 1:
                for module in [module for module in self.modules() if isinstance(module, kind)]:
                    module.shard(mesh[name])

    def parallel_refusal(self, sizes: Mapping[str, int]) -> str | None:
        heads, experts = self.hf_config.num_attention_heads, self.hf_config.n_routed_experts
        for name, count, what in (("tp", heads, "attention heads"), ("ep", experts, "experts")):
            if count % sizes[name]:
                return f"{name} = {sizes[name]} does not divide its {count} {what}"
        return None

    def routers(self) -> Iterator[Router]:
        """Return the routers of all mixtures of experts, in the order of layers."""
        return (module for module in self.modules() if isinstance(module, Router))

    def step_end(self) -> dict[str, float]:
        return {} if self.balance is None else self.balance.step_end()

    @classmethod
    def get_nparams_and_flops(cls, hf_config: Any, seq_len: int) -> tuple[int, int]:
        """Return parameters, and FLOPs per token; a token uses `num_experts_per_tok` of the routed experts."""
        with torch.device("meta"):
            model = cls(hf_config)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        routed = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name)
        idle = routed - routed * hf_config.num_experts_per_tok // hf_config.n_routed_experts
        looked_up = 0 if hf_config.tie_word_embeddings else model.embedding.weight.numel()
        head = hf_config.qk_nope_head_dim + hf_config.qk_rope_head_dim + hf_config.v_head_dim
        attended = 6 * hf_config.num_hidden_layers * hf_config.num_attention_heads * head * seq_len
        return parameters, 6 * (parameters - idle - looked_up) + attended


def _check(config: Any) -> None:
    for name, only in _ONLY.items():
        found = getattr(config, name, only)
        if found != only:
            raise UsageError(f"config.json: {name} = {found!r} is not supported by rlx-plugin-deepseek, only {only!r}.")
