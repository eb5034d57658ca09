"""Two hooks plugins, for `[plugins] enable`: one reports the experts' load as metrics, the other also balances it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rlx
from rlx import ConfigError, UsageError

if TYPE_CHECKING:
    from torch import nn

    from rlx import Config

BIAS_RATE = 0.001
"""The rate that DeepSeek-V3 was trained with for most of its tokens (arXiv 2412.19437, section 4.2)."""


class ExpertLoad:
    """`deepseek_expert_load`: metrics `experts/max_violation` and `experts/idle` of each step."""

    @rlx.hookimpl
    def rlx_model_built(self, model: nn.Module) -> None:
        _attach_balance(model, 0.0, "deepseek_expert_load")


class BiasUpdate:
    """`deepseek_bias_update`: these metrics, and corrections of the routers' scores towards an even load at each step.

    bias_rate: how far a correction moves in a step.
    """

    def __init__(self, bias_rate: float = BIAS_RATE) -> None:
        if not bias_rate > 0:
            raise ValueError(f"bias_rate = {bias_rate:g}: must be greater than 0")
        self._rate = bias_rate

    @rlx.hookimpl
    def rlx_configure(self, config: Config) -> None:
        if "deepseek_bias_rate" in config.meta:
            rate = config.meta["deepseek_bias_rate"]
            raise ConfigError(
                f"[meta] deepseek_bias_rate = {rate}: this is an option of the hooks plugin now. Write in [plugins]:\n"
                f'  enable = [{{ name = "deepseek_bias_update", args = {{ bias_rate = {rate} }} }}]'
            )

    @rlx.hookimpl
    def rlx_model_built(self, model: nn.Module) -> None:
        _attach_balance(model, self._rate, "deepseek_bias_update")


def _attach_balance(model: nn.Module, rate: float, hook: str) -> None:
    from rlx_plugin_deepseek.balance import Balance
    from rlx_plugin_deepseek.model import DeepseekV3MoEModel

    if not isinstance(model, DeepseekV3MoEModel):
        raise UsageError(
            f"{hook} is for models of rlx-plugin-deepseek, and this run trains a {type(model).__name__}. Remove it "
            "from [plugins] enable."
        )
    if model.balance is not None:
        raise UsageError("deepseek_bias_update includes the metrics of deepseek_expert_load: enable one of them.")
    model.balance = Balance(model.routers(), rate)
