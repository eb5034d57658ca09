"""DeepSeek-V3 and Moonlight as a model plugin of rlx.

Importing this package is cheap: names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlx import lazy_exports

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
else:
    __getattr__, __dir__ = lazy_exports(__name__, _WHERE)
