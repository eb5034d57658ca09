"""A launch script: `rlx run --config moonlight-sft.toml rlx_plugin_deepseek.moonlight_launcher`.

With the plugin installed a config needs no script, since models are found by their `model_type`; a script can register
a model together with a dataset and rewards.
"""

from __future__ import annotations

from rlx import ModelRegistry, launch_worker
from rlx_plugin_deepseek.model import DeepseekV3MoEModel
from rlx_plugin_deepseek.weight_mapper import DeepseekV3MoEWeightMapper

if __name__ == "__main__":
    ModelRegistry.register_model(DeepseekV3MoEModel, DeepseekV3MoEWeightMapper)
    launch_worker()
