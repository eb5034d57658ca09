"""The model that a config names: whether its plugin can build it, and whether its checkpoint fits what is built.

The rule of this part: nothing gets memory. The network is made on the meta device, and of a checkpoint the headers are
read; what would be found wrong on loading it is found here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlx.config.model import ModelConfig
from rlx.config.schema import Config
from rlx.errors import UsageError
from rlx.launch.attributed import attributed
from rlx.launch.model_facts import ModelFacts
from rlx.plugins.model import model_plugin
from rlx.plugins.session import Plugins

if TYPE_CHECKING:
    from torch import nn

    from rlx.api.model import ModelPlugin


def check_model(config: Config, plugins: Plugins, facts: ModelFacts) -> None:
    """Raises UsageError, or PluginError where the plugin's own code fails."""
    plugin = model_plugin(plugins)
    (name,) = plugins.names("models")
    owner = plugins.owner("models", name)
    if plugin.model_types is not None and facts.model_type not in plugin.model_types:
        raise UsageError(
            f"[model] path {config.model.path!r} is a model of the type {facts.model_type!r}, and {owner} is for "
            f"{', '.join(sorted(plugin.model_types))}.\nName another plugin as [model] plugin, or another model."
        )
    folder = Path(config.model.path)
    if folder.is_dir():
        _check_folder(plugin, config.model, folder, config.policy.attention, owner)


def _check_folder(plugin: ModelPlugin, model: ModelConfig, folder: Path, attention: str | None, owner: str) -> None:
    from rlx.policy.build import parameters_on_meta
    from rlx.policy.load import check_weights
    from rlx.policy.source import load_config
    from rlx.policy.tensors import decoder_layers

    hf_config = load_config(model, folder)

    def build() -> nn.Module:
        with parameters_on_meta():
            network: nn.Module = plugin.build(hf_config, attn_implementation=attention)
        decoder_layers(network)
        return network

    network = attributed(owner, "building the model", build)
    mapper: Any = attributed(owner, "its weight_mapper", lambda: plugin.weight_mapper(hf_config))
    attributed(owner, "mapping the checkpoint", lambda: check_weights(network, folder, mapper))
