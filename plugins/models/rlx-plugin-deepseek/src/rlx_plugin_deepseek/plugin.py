"""What the entry point `deepseek_v3` of `rlx.models` names.

No packer of its own: prompts go through the tokenizer's chat template, as the default `decoder_only_llm` does it.
"""

from __future__ import annotations

from rlx import ModelPlugin
from rlx_plugin_deepseek.model import DeepseekV3MoEModel
from rlx_plugin_deepseek.weight_mapper import DeepseekV3MoEWeightMapper

plugin = ModelPlugin.of(DeepseekV3MoEModel, DeepseekV3MoEWeightMapper)
