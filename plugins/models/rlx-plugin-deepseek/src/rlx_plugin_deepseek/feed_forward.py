"""The feed-forward part of a layer: dense, or a mixture of routed experts with shared ones beside them.

Shapes: T tokens, H hidden size, I inner size, E experts, K experts of a token.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from rlx_plugin_deepseek.experts import Experts
from rlx_plugin_deepseek.router import Router


class Dense(nn.Module):
    """Gated feed-forward (SwiGLU); gate and up projections are one matrix."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(hidden, 2 * inner, bias=False)
        self.down = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        down: Tensor = self.down(F.silu(gate) * up)
        return down


class Mixture(nn.Module):
    """Sends each token through the experts chosen by the router, and through the shared ones."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.router = Router(config)
        self.experts = Experts(config.n_routed_experts, config.hidden_size, config.moe_intermediate_size)
        self.shared = Dense(config.hidden_size, config.moe_intermediate_size * config.n_shared_experts)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, -2)
        chosen, weights = self.router(tokens)
        mixed: Tensor = self.experts(tokens, chosen, weights).view_as(x) + self.shared(x)
        return mixed
