"""AdamW over sharded parameters, with its schedule and clipping.

The rules of this part:

* The learning rate is a pure function of the number of the update: there is no scheduler state to lose.
* Moments exist from the start, so that a checkpoint always has the same tensors.
* A parameter that two stages have is one: both step with the sum of their gradients, which is counted once.
* A gradient that is not finite ends the run: stepping on it would make every weight NaN.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
    """AdamW of the parameters that require a gradient; decay on matrices only.

    stage: what `parameters` are those of; None where they are all. tied: names of those that the first stage and the
    last have both.
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
        self._adamw = torch.optim.AdamW(self._groups(), lr=config.lr, betas=config.betas, eps=config.eps, fused=True)
        for parameter in self.parameters.values():
            self._adamw.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                **{moment: torch.zeros_like(parameter) for moment in MOMENTS},
            }

    def update(self, update: int) -> tuple[float, float]:
        """One step with the gradients as they lie; returns their global norm before clipping, and the rate."""
        rate = learning_rate(self._config, update, self._updates)
        for group in self._adamw.param_groups:
            group["lr"] = rate
        self._add_up_tied()
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

    def _groups(self) -> list[dict[str, Any]]:
        """One for each placement and decay: an operation on many tensors at once takes those of one mesh only."""
        groups: dict[tuple[object, bool], list[nn.Parameter]] = {}
        for parameter in self.parameters.values():
            groups.setdefault((_placement(parameter), parameter.ndim >= 2), []).append(parameter)
        return [
            {"params": group, "weight_decay": self._config.weight_decay if decays else 0.0}
            for (_, decays), group in groups.items()
        ]

    @torch.no_grad()
    def _add_up_tied(self) -> None:
        for parameter in self._tied:
            assert self._stage is not None
            assert isinstance(parameter.grad, DTensor)
            self._stage.sum_over_ends(parameter.grad.to_local())

    def _clip(self, update: int) -> float:
        groups = [group["params"] for group in self._adamw.param_groups]
        squares = sum(_squares([parameter for parameter in group if self._counts(parameter)]) for group in groups)
        norm = math.sqrt(squares if self._stage is None else self._stage.sum_over_stages(squares))
        if not math.isfinite(norm):
            raise RunError(f"The gradient of step {update} is not finite (norm {norm}). Lower policy.optimizer.lr?")
        if self._config.max_grad_norm > 0:
            for group in groups:
                clip_grads_with_norm_(group, self._config.max_grad_norm, torch.tensor(norm), foreach=True)
        return norm

    def _counts(self, parameter: nn.Parameter) -> bool:
        """Whether it is this stage that counts its gradient."""
        return self._stage is None or self._stage.first or all(parameter is not tied for tied in self._tied)


def _placement(tensor: Tensor) -> object:
    return (tensor.device_mesh, tensor.placements) if isinstance(tensor, DTensor) else None


def _squares(group: Sequence[nn.Parameter]) -> float:
    """The sum of the squares of gradients that are placed alike."""
    gradients = [parameter.grad for parameter in group if parameter.grad is not None]
    local = [grad.to_local() if isinstance(grad, DTensor) else grad for grad in gradients]
    squares = get_total_norm(local, foreach=True).double().square()
    if gradients and isinstance(gradients[0], DTensor):
        added = [Replicate() if placement.is_replicate() else Partial() for placement in gradients[0].placements]
        squares = gather_full(DTensor.from_local(squares, gradients[0].device_mesh, added, run_check=False))
    return float(squares)
