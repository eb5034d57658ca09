"""A custom model: Qwen3 in plain PyTorch with its own tensor names and fused projections, and the mapper to Hugging
Face checkpoints. A config names it: `[model] plugin = "./toy_model.py:plugin"`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import rlx
from rlx import Attention, causal_attention


class Mixer(nn.Module):
    """Grouped-query attention; one matrix projects queries, keys and values."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.qkv = nn.Linear(config.hidden_size, (self.heads + 2 * self.kv_heads) * self.size, bias=False)
        self.out = nn.Linear(self.heads * self.size, config.hidden_size, bias=False)
        self.query_norm = nn.RMSNorm(self.size, eps=config.rms_norm_eps)
        self.key_norm = nn.RMSNorm(self.size, eps=config.rms_norm_eps)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], attention: Attention) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (-1, self.size)).transpose(1, 2)  # [B, heads, L, D]
        query, key, value = heads.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        query, key = rotate(self.query_norm(query), *rotation), rotate(self.key_norm(key), *rotation)
        mixed: Tensor = self.out(attention(query, key, value).transpose(1, 2).flatten(2))
        return mixed


class Gated(nn.Module):
    """Gated feed-forward part; gate and up projections are one matrix."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        down: Tensor = self.down(F.silu(gate) * up)
        return down


class Block(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.mixer_norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mixer = Mixer(config)
        self.gated_norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.gated = Gated(config)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], attention: Attention) -> Tensor:
        x = x + self.mixer(self.mixer_norm(x), rotation, attention)
        y: Tensor = x + self.gated(self.gated_norm(x))
        return y


class ToyModel(rlx.BaseModel):
    def __init__(self, hf_config: Any) -> None:
        super().__init__(hf_config)
        self.table = nn.Embedding(hf_config.vocab_size, hf_config.hidden_size)
        self.blocks = nn.ModuleList(Block(hf_config) for _ in range(hf_config.num_hidden_layers))
        self.norm = nn.RMSNorm(hf_config.hidden_size, eps=hf_config.rms_norm_eps)
        if not hf_config.tie_word_embeddings:
            self.head = nn.Linear(hf_config.hidden_size, hf_config.vocab_size, bias=False)
        exponents = torch.arange(0, hf_config.head_dim, 2).float() / hf_config.head_dim
        frequencies = hf_config.rope_parameters["rope_theta"] ** -exponents
        self.register_buffer("frequencies", frequencies, persistent=False)  # not in checkpoints

    @staticmethod
    def supported_model_types() -> list[str]:
        return ["qwen3"]

    def hidden_states(self, input_ids: Tensor, position_ids: Tensor, attention: Attention = causal_attention) -> Tensor:
        x: Tensor = self.table(input_ids)
        angles = position_ids[:, None, :, None] * self.frequencies  # [B, 1, L, D / 2]
        rotation = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for block in self.blocks:
            x = block(x, rotation, attention)
        normed: Tensor = self.norm(x)
        return normed

    def input_embedding(self) -> nn.Module:
        return self.table

    def output_embedding(self) -> nn.Module:
        return self.table if self.hf_config.tie_word_embeddings else self.head


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


WHOLE = {"table": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
PARTS = {  # of a block: our tensor -> the checkpoint tensors that it is made of
    "mixer.qkv.weight": [f"self_attn.{letter}_proj.weight" for letter in "qkv"],
    "mixer.out.weight": ["self_attn.o_proj.weight"],
    "mixer.query_norm.weight": ["self_attn.q_norm.weight"],
    "mixer.key_norm.weight": ["self_attn.k_norm.weight"],
    "mixer_norm.weight": ["input_layernorm.weight"],
    "gated.gate_up.weight": ["mlp.gate_proj.weight", "mlp.up_proj.weight"],
    "gated.down.weight": ["mlp.down_proj.weight"],
    "gated_norm.weight": ["post_attention_layernorm.weight"],
}


class ToyMapper(rlx.WeightMapper):
    """Maps tensors one by one: holds the parts of a fused tensor until all of them have arrived."""

    def __init__(self, hf_config: Any) -> None:
        kv, size = hf_config.num_key_value_heads, hf_config.head_dim
        self.rows = {"mixer.qkv.weight": [hf_config.num_attention_heads * size, kv * size, kv * size]}
        layers = range(hf_config.num_hidden_layers)
        self.names = {f"{ours}.weight": [f"{theirs}.weight"] for ours, theirs in WHOLE.items()}
        for layer in layers:
            for ours, parts in PARTS.items():
                self.names[f"blocks.{layer}.{ours}"] = [f"model.layers.{layer}.{theirs}" for theirs in parts]
        self.owner = {theirs: ours for ours, parts in self.names.items() for theirs in parts}

    def policy_to_hf(self, name: str, tensor: Tensor) -> Iterable[tuple[str, Tensor]]:
        parts = self.names[name]
        rows = self.rows.get(name.split(".", 2)[-1], [len(tensor) // len(parts)] * len(parts))
        return zip(parts, tensor.split(rows), strict=True)

    def hf_to_policy(self, tensors: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        waiting: dict[str, dict[str, Tensor]] = {}
        for theirs, tensor in tensors:
            ours = self.owner.get(theirs, theirs)  # rlx refuses unknown names
            parts = self.names.get(ours, [theirs])
            seen = waiting.setdefault(ours, {})
            seen[theirs] = tensor
            if len(seen) == len(parts):
                yield ours, torch.cat([seen[part] for part in parts])
                del waiting[ours]


plugin = rlx.ModelPlugin.of(ToyModel, ToyMapper)
