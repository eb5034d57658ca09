"""DeepSeek-V3 and Moonlight as a model plugin of rlx.

Importing this package is free: a name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_WHERE = {
    "DecoderOnlyLLMDataPacker": "rlx",
    "DeepseekV3MoEModel": "rlx_plugin_deepseek.model",
    "DeepseekV3MoEWeightMapper": "rlx_plugin_deepseek.weight_mapper",
}

__all__ = [*_WHERE]  # noqa: PLE0604 - the keys are strings

if TYPE_CHECKING:
    from rlx import DecoderOnlyLLMDataPacker as DecoderOnlyLLMDataPacker
    from rlx_plugin_deepseek.model import DeepseekV3MoEModel as DeepseekV3MoEModel
    from rlx_plugin_deepseek.weight_mapper import DeepseekV3MoEWeightMapper as DeepseekV3MoEWeightMapper


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'rlx_plugin_deepseek' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
