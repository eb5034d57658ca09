"""Two hooks, for `[plugins] enable`: the load of experts as metrics, and the same with its evening out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rlx
from rlx import UsageError

if TYPE_CHECKING:
    from torch import nn

    from rlx import Config

BIAS_RATE = 0.001
"""What DeepSeek-V3 was trained with for most of its tokens (arXiv 2412.19437, section 4.2)."""


class ExpertLoad:
    """`deepseek_expert_load`: metrics `experts/max_violation` and `experts/idle` of each step."""

    @rlx.hookimpl
    def rlx_model_built(self, model: nn.Module) -> None:
        _look_after(model, 0.0, "deepseek_expert_load")


class BiasUpdate:
    """`deepseek_bias_update`: the metrics, and routers' corrections move towards an even load at each step.

    By 0.001, or by what the config says as `[meta] deepseek_bias_rate`.
    """

    def __init__(self) -> None:
        self._rate = BIAS_RATE

    @rlx.hookimpl
    def rlx_configure(self, config: Config) -> None:
        _rate(config)

    @rlx.hookimpl
    def rlx_worker_start(self, process: str, config: Config) -> None:  # noqa: ARG002 - pluggy goes by names
        self._rate = _rate(config)

    @rlx.hookimpl
    def rlx_model_built(self, model: nn.Module) -> None:
        _look_after(model, self._rate, "deepseek_bias_update")


def _rate(config: Config) -> float:
    rate = config.meta.get("deepseek_bias_rate", BIAS_RATE)
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or rate <= 0:
        raise UsageError(f"[meta] deepseek_bias_rate = {rate!r}: must be a number above 0, as 0.001 is.")
    return float(rate)


def _look_after(model: nn.Module, rate: float, hook: str) -> None:
    from rlx_plugin_deepseek.balance import Balance
    from rlx_plugin_deepseek.model import DeepseekV3MoEModel

    if not isinstance(model, DeepseekV3MoEModel):
        raise UsageError(
            f"{hook} is for models of rlx-plugin-deepseek, and this run trains a {type(model).__name__}. Take it out "
            "of [plugins] enable."
        )
    if model.balance is not None:
        raise UsageError("deepseek_bias_update has the metrics of deepseek_expert_load: enable one of them.")
    model.balance = Balance(model.routers(), rate)
