"""Measures how evenly experts are used, and balances their load if asked to.

The load of a step is counted over all ranks and micro-batches. Padding counts as tokens. Each rank counts the layers of
its pipeline stage and corrects all layers. Recomputed layers count twice, all of them alike.

Shapes: M mixtures (layers with experts), E experts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from rlx_plugin_deepseek.router import Router


class Balance:
    """Counts the load of experts, and corrects the routers' scores after each step.

    bias_rate: change of an expert's score correction per step, towards an even load; 0 leaves it unchanged.
    """

    def __init__(self, routers: Iterable[Router], bias_rate: float = 0.0) -> None:
        self._routers = list(routers)
        self.bias_rate = bias_rate
        for router in self._routers:
            router.counts = True

    @torch.no_grad()
    def step_end(self) -> dict[str, float]:
        """Correct the scores, reset the counts, and return the metrics of the step. Collective: all ranks call it."""
        if not self._routers:
            return {}
        load = torch.stack([router.load for router in self._routers])  # [M, E]
        if dist.is_initialized():
            dist.all_reduce(load)
        for router, own in zip(self._routers, load, strict=True):
            router.correction += self.bias_rate * (own.float().mean() - own).sign()
            router.load.zero_()
        return metrics(load)


def metrics(load: Tensor) -> dict[str, float]:
    """Return the metrics of a load [M, E]; both are 0 for a perfect balance."""
    relative = load / load.float().mean(dim=1, keepdim=True).clamp(min=1)
    return {
        "experts/max_violation": float(relative.max(dim=1).values.mean()) - 1,
        "experts/idle": float((load == 0).float().mean()),
    }
