"""The model that a config names: whether its plugin can build it, and whether its checkpoint fits what is built.

The rule of this part: nothing gets memory. The network is made on the meta device, and of a checkpoint the headers are
read; what would be found wrong on loading it is found here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlx.config.schema import Config
from rlx.errors import UsageError, attribute
from rlx.models.select import DEFAULT_MODEL_PLUGIN, model_plugin
from rlx.plugins.resolve import model_hint
from rlx.plugins.session import Plugins
from rlx.preflight.model_facts import ModelFacts

if TYPE_CHECKING:
    from torch import nn

    from rlx.models.plugin import ModelPlugin


@dataclass(frozen=True)
class ModelSize:
    """Numbers that a network is made of."""

    parameters: int
    """All of them; tied ones count once."""
    layer: int
    """Of the largest decoder layer."""
    surroundings: int
    """Of what lies outside of the layers."""

    @classmethod
    def of(cls, network: nn.Module) -> ModelSize:
        from rlx.policy.parallel.tensors import decoder_layers

        total = _count(network)
        layers = [_count(layer) for layer in decoder_layers(network)[1]]
        return cls(total, max(layers), total - sum(layers))


def check_model(config: Config, plugins: Plugins, facts: ModelFacts) -> ModelSize | None:
    """None where the model is still on the Hub. Raises UsageError, or PluginError where the plugin's own code fails."""
    plugin = model_plugin(plugins)
    (name,) = plugins.names("models")
    owner = plugins.owner("models", name)
    if plugin.model_types is not None and facts.model_type not in plugin.model_types:
        raise UsageError(
            f"[model] path {config.model.path!r} is a model of the type {facts.model_type!r}, and {owner} is for "
            f"{', '.join(sorted(plugin.model_types))}.\nName another plugin as [model] plugin, or another model."
        )
    folder = Path(config.model.path)
    if not folder.is_dir():
        return None
    try:
        network = _built(plugin, config, folder, owner, weights=not facts.only_config)
    except UsageError as error:
        hint = model_hint(facts.model_type)
        if name != DEFAULT_MODEL_PLUGIN or hint is None:
            raise
        raise UsageError(f"{error}\n{hint}") from error
    _check_layout(network, config, owner)
    return ModelSize.of(network)


def _check_layout(network: nn.Module, config: Config, owner: str) -> None:
    from rlx.policy.model.adapters import adapter_for
    from rlx.policy.model.parallel_checks import check_parallel

    with attribute(owner, "its parallel_refusal"):
        check_parallel(adapter_for(network), config.policy)


def _built(plugin: ModelPlugin, config: Config, folder: Path, owner: str, *, weights: bool) -> nn.Module:
    """The network on the meta device; where there are weights, they fit it."""
    import torch

    from rlx.policy.build import parameters_on_meta
    from rlx.policy.parallel.tensors import decoder_layers
    from rlx.policy.weights.hf_folder import load_hf_config
    from rlx.policy.weights.load import check_weights

    hf_config = load_hf_config(config.model, folder)

    def build() -> nn.Module:
        # A plan asks for shapes only. A model that its machine is too small for could not even reserve memory.
        with parameters_on_meta() if weights else torch.device("meta"):
            network: nn.Module = plugin.build(hf_config, attn_implementation=config.policy.attention)
        decoder_layers(network)
        return network

    with attribute(owner, "building the model"):
        network = build()
    with attribute(owner, "its weight_mapper"):
        mapper = plugin.weight_mapper(hf_config)
    if weights:
        with attribute(owner, "mapping the checkpoint"):
            check_weights(network, folder, mapper)
    return network


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
