"""The model plugin of the entry point `deepseek_v3` in `rlx.models`.

It has no packer: the default, `decoder_only_llm`, applies the tokenizer's chat template.
"""

from __future__ import annotations

from rlx import ModelPlugin
from rlx_plugin_deepseek.model import DeepseekV3MoEModel
from rlx_plugin_deepseek.weight_mapper import DeepseekV3MoEWeightMapper

plugin = ModelPlugin.of(DeepseekV3MoEModel, DeepseekV3MoEWeightMapper)
