"""AdamW over sharded parameters, with its learning rate schedule and gradient clipping.

Rules:

* The learning rate is a pure function of the update's number; a checkpoint needs no scheduler state.
* Moments exist from the start, so that every checkpoint has the same tensors.
* A parameter on two pipeline stages is one parameter: both stages step with the sum of its gradients, and the norm
  counts that sum once.
* A gradient that isn't finite ends the run: stepping on it would make every weight NaN.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch.distributed.tensor import DTensor, Partial, Replicate
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from rlx.errors import RunError
from rlx.policy.parallel.tensors import gather_full

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rlx.config.sections.policy import OptimizerConfig
    from rlx.policy.parallel.pipeline import Stage

MOMENTS = ("exp_avg", "exp_avg_sq")


def learning_rate(config: OptimizerConfig, update: int, updates: int) -> float:
    """Return the learning rate of update `update` (from 0) of `updates`. It is above 0 from the first warm-up step."""
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
    """AdamW of the parameters that require a gradient; weight decay applies to matrices only.

    stage: the pipeline stage that holds `parameters`; None if they are the whole model. tied: names of the parameters
    that both the first stage and the last hold.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        config: OptimizerConfig,
        updates: int,
        stage: Stage | None = None,
        tied: Collection[str] = (),
    ) -> None:
        self.parameters = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
        self._config = config
        self._updates = updates
        self._stage = stage
        self._tied = [parameter for name, parameter in self.parameters.items() if name in tied]
        self._adamw = torch.optim.AdamW(
            self._parameter_groups(), lr=config.lr, betas=config.betas, eps=config.eps, fused=True
        )
        for parameter in self.parameters.values():
            self._adamw.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                **{moment: torch.zeros_like(parameter) for moment in MOMENTS},
            }

    def update(self, update: int) -> tuple[float, float]:
        """Step with the accumulated gradients; return their global norm before clipping, and the learning rate."""
        rate = learning_rate(self._config, update, self._updates)
        for group in self._adamw.param_groups:
            group["lr"] = rate
        for parameter in self._tied:
            assert self._stage is not None
            assert isinstance(parameter.grad, DTensor)
            with torch.no_grad():
                self._stage.sum_over_ends(parameter.grad.to_local())
        norm = self._clip(update)
        self._adamw.step()
        self._adamw.zero_grad()
        return norm, rate

    def moments(self) -> dict[str, Tensor]:
        """Return `exp_avg.<name>` and `exp_avg_sq.<name>`: the running means, sharded as their parameters are."""
        return {
            f"{moment}.{name}": self._adamw.state[parameter][moment]
            for name, parameter in self.parameters.items()
            for moment in MOMENTS
        }

    def restore(self, updates: int) -> None:
        """Continue after `updates` updates. The caller has loaded the moments in place."""
        for parameter in self.parameters.values():
            self._adamw.state[parameter]["step"].fill_(updates)

    def _parameter_groups(self) -> list[dict[str, object]]:
        """Return one group for each mesh, placement and decay: a foreach kernel takes tensors of one mesh only."""
        groups: dict[tuple[object, bool], list[nn.Parameter]] = {}
        for parameter in self.parameters.values():
            placed = (parameter.device_mesh, parameter.placements) if isinstance(parameter, DTensor) else None
            groups.setdefault((placed, parameter.ndim >= 2), []).append(parameter)
        return [
            {"params": group, "weight_decay": self._config.weight_decay if decays else 0.0}
            for (_, decays), group in groups.items()
        ]

    def _clip(self, update: int) -> float:
        """Clip the gradients to `max_grad_norm`; return their norm before. Raises RunError if it isn't finite."""
        groups = [group["params"] for group in self._adamw.param_groups]
        # The first stage counts the gradients of tied parameters.
        counts_tied = self._stage is None or self._stage.first
        counted = [
            [parameter for parameter in group if counts_tied or all(parameter is not tied for tied in self._tied)]
            for group in groups
        ]
        squares = sum(map(_squared_norm, counted))
        norm = math.sqrt(squares if self._stage is None else self._stage.sum_over_stages(squares))
        if not math.isfinite(norm):
            raise RunError(f"The gradient of step {update} is not finite (norm {norm}). Lower policy.optimizer.lr?")
        if self._config.max_grad_norm > 0:
            for group in groups:
                clip_grads_with_norm_(group, self._config.max_grad_norm, torch.tensor(norm), foreach=True)
        return norm


def _squared_norm(parameters: Sequence[nn.Parameter]) -> float:
    """Return the sum of squares of the gradients of parameters that have the same placement, over all of its ranks."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    local = [grad.to_local() if isinstance(grad, DTensor) else grad for grad in gradients]
    squares = get_total_norm(local, foreach=True).double().square()
    if gradients and isinstance(gradients[0], DTensor):
        summed = [Replicate() if placement.is_replicate() else Partial() for placement in gradients[0].placements]
        squares = gather_full(DTensor.from_local(squares, gradients[0].device_mesh, summed, run_check=False))
    return float(squares)
