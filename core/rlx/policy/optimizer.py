"""AdamW over sharded parameters, with its schedule and clipping.

The rules of this part:

* The learning rate is a pure function of the number of the update: there is no scheduler state to lose.
* Moments exist from the start, so that a checkpoint always has the same tensors.
* A gradient that is not finite ends the run: stepping on it would make every weight NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from rlx.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rlx.config.policy import OptimizerConfig

MOMENTS = ("exp_avg", "exp_avg_sq")


def learning_rate(config: OptimizerConfig, update: int, updates: int) -> float:
    """The rate of update `update` (from 0) of `updates`. The first update of a warm-up already moves."""
    if update < config.warmup_steps:
        return config.lr * (update + 1) / (config.warmup_steps + 1)
    progress = min((update - config.warmup_steps) / max(updates - config.warmup_steps, 1), 1.0)
    shape = {
        "constant": 1.0,
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
    }[config.schedule]
    floor = 1.0 if config.schedule == "constant" else config.min_lr_ratio
    return config.lr * (floor + (1.0 - floor) * shape)


class Optimizer:
    """AdamW of the parameters that require a gradient; decay on matrices only."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], config: OptimizerConfig, updates: int) -> None:
        self.parameters = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
        self._config = config
        self._updates = updates
        self._adamw = torch.optim.AdamW(self._groups(), lr=config.lr, betas=config.betas, eps=config.eps, foreach=True)
        for parameter in self.parameters.values():
            self._adamw.state[parameter] = {
                "step": torch.tensor(0.0),
                **{moment: torch.zeros_like(parameter) for moment in MOMENTS},
            }

    def update(self, update: int) -> tuple[float, float]:
        """One step with the gradients as they lie; returns their global norm before clipping, and the rate."""
        rate = learning_rate(self._config, update, self._updates)
        for group in self._adamw.param_groups:
            group["lr"] = rate
        norm = self._clip(update)
        self._adamw.step()
        self._adamw.zero_grad()
        return norm, rate

    def moments(self) -> dict[str, Tensor]:
        """`exp_avg.<name>` and `exp_avg_sq.<name>`: the running means, sharded as their parameters are."""
        return {
            f"{moment}.{name}": self._adamw.state[parameter][moment]
            for name, parameter in self.parameters.items()
            for moment in MOMENTS
        }

    def restore(self, updates_done: int) -> None:
        """Go on after so many updates; the moments have been filled in."""
        for parameter in self.parameters.values():
            self._adamw.state[parameter]["step"].fill_(updates_done)

    def _groups(self) -> list[dict[str, object]]:
        values = self.parameters.values()
        return [
            {"params": [p for p in values if p.ndim >= 2], "weight_decay": self._config.weight_decay},
            {"params": [p for p in values if p.ndim < 2], "weight_decay": 0.0},
        ]

    def _clip(self, update: int) -> float:
        parameters = list(self.parameters.values())
        total = get_total_norm([p.grad for p in parameters if p.grad is not None], foreach=True)
        norm = float(total.full_tensor() if isinstance(total, DTensor) else total)
        if not math.isfinite(norm):
            raise RunError(f"The gradient of step {update} is not finite (norm {norm}). Lower policy.optimizer.lr?")
        if self._config.max_grad_norm > 0:
            clip_grads_with_norm_(parameters, self._config.max_grad_norm, torch.tensor(norm), foreach=True)
        return norm
