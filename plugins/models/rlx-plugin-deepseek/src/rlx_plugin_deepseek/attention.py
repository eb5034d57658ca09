"""Multi-head latent attention: the keys and values of all heads come from one small latent vector per token.

Shapes: B rows, L positions, H hidden size. A head's query and key have P entries without position and R rotated ones
(one rotated key serves all heads); its value has V entries.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from rlx import Attention, split_block
from rlx_plugin_deepseek.rotary import rotate, score_scale

LATENT_EPS = 1e-6
"""Epsilon of the latent vectors' norms. Independent of `rms_norm_eps`, as in the models' own code."""


class LatentAttention(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.heads, self.ranks = config.num_attention_heads, 1
        self.plain, self.rotated, self.value = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
        self.rank = config.kv_lora_rank
        self.interleaved = config.rope_interleave
        size = self.plain + self.rotated
        self.scale = size**-0.5 * score_scale(config.rope_parameters, config.max_position_embeddings)
        hidden, bias = config.hidden_size, config.attention_bias
        if config.q_lora_rank is None:
            self.query = nn.Linear(hidden, self.heads * size, bias=False)
        else:
            self.query_down = nn.Linear(hidden, config.q_lora_rank, bias=bias)
            self.query_norm = nn.RMSNorm(config.q_lora_rank, eps=LATENT_EPS)
            self.query_up = nn.Linear(config.q_lora_rank, self.heads * size, bias=False)
        self.latent = nn.Linear(hidden, self.rank + self.rotated, bias=bias)
        self.latent_norm = nn.RMSNorm(self.rank, eps=LATENT_EPS)
        self.expand = nn.Linear(self.rank, self.heads * (self.plain + self.value), bias=False)
        self.output = nn.Linear(self.heads * self.value, hidden, bias=bias)

    def shard(self, ranks: DeviceMesh) -> None:
        """Split the heads over the ranks; all ranks compute the latent vectors."""
        self.ranks = ranks.size()
        query = "query" if hasattr(self, "query") else "query_up"
        split_block(self, ranks, columns=[query, "expand"], rows=["output"])

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attention: Attention) -> Tensor:
        """Attend within the rows of x [B, L, H]; cos and sin are [B, 1, L, R / 2]."""
        query = self._heads(self._query(x))
        latent, rotated_key = torch.split(self.latent(x), [self.rank, self.rotated], dim=-1)
        key_value = self._heads(self.expand(self.latent_norm(latent)))
        plain_key, value = torch.split(key_value, [self.plain, self.value], dim=-1)
        plain_query, rotated_query = torch.split(query, [self.plain, self.rotated], dim=-1)
        rotated_query = rotate(rotated_query, cos, sin, interleaved=self.interleaved)
        rotated_key = rotate(rotated_key.unsqueeze(1), cos, sin, interleaved=self.interleaved)
        query = torch.cat([plain_query, rotated_query], dim=-1)
        key = torch.cat([plain_key, rotated_key.expand(-1, query.shape[1], -1, -1)], dim=-1)
        mixed: Tensor = self.output(attention(query, key, value, scale=self.scale).transpose(1, 2).flatten(2))
        return mixed

    def _query(self, x: Tensor) -> Tensor:
        if hasattr(self, "query"):
            plain: Tensor = self.query(x)
            return plain
        low: Tensor = self.query_up(self.query_norm(self.query_down(x)))
        return low

    def _heads(self, x: Tensor) -> Tensor:
        """[B, L, heads * size] -> [B, heads, L, size], for the heads of this rank."""
        return x.view(*x.shape[:-1], self.heads // self.ranks, -1).transpose(1, 2)
