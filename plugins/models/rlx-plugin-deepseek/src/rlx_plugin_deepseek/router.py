"""Chooses each token's experts and their weights: sigmoid scores, within the best groups of experts.

A correction is added to the scores for the choice only, not for the weights: it balances the load without an auxiliary
loss (arXiv 2408.15664). It gets no gradient.

Shapes: T tokens, H hidden size, E experts in G groups, K experts of a token.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

_BEST_OF_GROUP = 2
"""A group's score is the sum of this many of its experts' scores."""


class Router(nn.Module):
    correction: Tensor
    load: Tensor
    """[E] Tokens that each expert got in training since the last reset, if `counts` is set."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.groups, self.groups_kept = config.n_group or 1, config.topk_group or 1
        self.experts_of_token = config.num_experts_per_tok
        self.normalised, self.scaling = config.norm_topk_prob, config.routed_scaling_factor
        self.weight = nn.Parameter(torch.empty(config.n_routed_experts, config.hidden_size))
        nn.init.normal_(self.weight, std=config.initializer_range)
        # float32 for any compute dtype: updates are far smaller than scores.
        self.register_buffer("correction", torch.zeros(config.n_routed_experts, dtype=torch.float32))
        self.register_buffer("load", torch.zeros(config.n_routed_experts, dtype=torch.int64), persistent=False)
        self.counts = False

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Choose experts [T, K] for tokens [T, H], and return them with their weights [T, K] in float32."""
        scores = F.linear(tokens.float(), self.weight.float()).sigmoid()
        chosen = self._choose(scores.detach())
        if self.counts and self.training:
            self.load += chosen.flatten().bincount(minlength=len(self.load))
        weights = scores.gather(1, chosen)
        if self.normalised:
            weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)
        return chosen, weights * self.scaling

    def _choose(self, scores: Tensor) -> Tensor:
        corrected = (scores + self.correction).view(len(scores), self.groups, -1)  # [T, G, E / G]
        if self.groups_kept < self.groups:
            worth = corrected.topk(_BEST_OF_GROUP, dim=-1).values.sum(dim=-1)
            left_out = torch.ones_like(worth, dtype=torch.bool)
            left_out.scatter_(1, worth.topk(self.groups_kept, dim=-1).indices, value=False)
            corrected = corrected.masked_fill(left_out.unsqueeze(-1), -torch.inf)
        return corrected.flatten(1).topk(self.experts_of_token, dim=-1).indices
