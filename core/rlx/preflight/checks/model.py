"""Check that the model plugin can build the model, and that the checkpoint fits the network.

Rule: no memory is allocated for weights. The network is built on the meta device, and of a checkpoint only the headers
are read. Loading the checkpoint finds no further errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlx.config.schema import Config
from rlx.errors import UsageError, attribute
from rlx.models.architectures import (
    DEFAULT_CONTEXT,
    attention_notes,
    check_engine_rope,
    check_engine_support,
    check_row_length,
    context_given,
    dropout_notes,
    engine_notes,
)
from rlx.models.plain import plain_model
from rlx.models.select import DEFAULT_MODEL_PLUGIN, model_plugin
from rlx.plugins.resolve import model_hint
from rlx.plugins.session import Plugins
from rlx.preflight.checks.model_facts import ModelFacts
from rlx.preflight.checks.problems import Problems

if TYPE_CHECKING:
    from torch import nn

    from rlx.models.plugin import ModelPlugin


_BUILT_IN = "rlx_models.hf:plugin"
"""The plugin that builds models with transformers."""


@dataclass(frozen=True)
class ModelSize:
    """Parameter counts of a network."""

    parameters: int
    """In total; tied parameters count once."""
    layer: int
    """In the largest decoder layer."""
    surroundings: int
    """Outside of the decoder layers."""

    @classmethod
    def of(cls, network: nn.Module) -> ModelSize:
        from rlx.policy.parallel.tensors import decoder_layers

        total = _count(network)
        layers = [_count(layer) for layer in decoder_layers(network)[1]]
        return cls(total, max(layers), total - sum(layers))


def check_model(config: Config, plugins: Plugins, facts: ModelFacts) -> ModelSize | None:
    """Return the size of the model; None if it is on the Hub and not downloaded yet.

    Raises UsageError if the plugin or the layout does not fit the model, PluginError if the plugin's own code fails.
    """
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
    built_in = any(record.target == _BUILT_IN for record in plugins.records)
    if built_in and (known := _size_of_plain(config, folder)) is not None:
        return known
    try:
        network = _build(plugin, config, folder, owner, weights=not facts.only_config)
    except UsageError as error:
        hint = model_hint(facts.model_type)
        if name != DEFAULT_MODEL_PLUGIN or hint is None:
            raise
        raise UsageError(f"{error}\n{hint}") from error
    from rlx.policy.model.adapters import adapter_for
    from rlx.policy.model.parallel_checks import check_parallel
    from rlx.policy.model.self_check import check_attention

    adapter = adapter_for(network)
    check_attention(adapter, config.policy)
    with attribute(owner, "its parallel_refusal"):
        check_parallel(adapter, config.policy)
    return ModelSize.of(network)


def check_architecture(config: Config, problems: Problems, *, rollouts: bool) -> Config:
    """Check that policy and engines compute the same with this model, and note what a run does with its dropout.

    Return the config, with an engine's context for a model that doesn't give one. Raises ConfigError if the engine
    can't have the policy's weights, or would compute something else with them. The model's folder is here.
    """
    from rlx.policy.weights.hf_folder import load_hf_config

    if plain_model(Path(config.model.path)) is not None:
        # It has no dropout, the default rotary frequencies, a longest sequence, and an implementation in vLLM.
        return config
    hf_config = load_hf_config(config.model, Path(config.model.path))
    for note in (*attention_notes(config, hf_config), *dropout_notes(config, hf_config, rollouts=rollouts)):
        problems.note(note)
    if not rollouts:
        check_row_length(config, hf_config)
        return config
    check_engine_rope(config, hf_config)
    check_engine_support(config, hf_config)
    for note in engine_notes(hf_config):
        problems.note(note)
    if context_given(hf_config) or "max_model_len" in config.rollout.vllm:
        return config
    problems.note(
        f"config.json of the model gives no longest sequence: engines take {DEFAULT_CONTEXT} tokens. "
        "[rollout.vllm] max_model_len changes that."
    )
    vllm = {**config.rollout.vllm, "max_model_len": DEFAULT_CONTEXT}
    return config.model_copy(update={"rollout": config.rollout.model_copy(update={"vllm": vllm})})


def _size_of_plain(config: Config, folder: Path) -> ModelSize | None:
    """Return the size of a plain model whose checkpoint fits; None if that takes building it.

    The policy's layout must be one that every model allows, since only the network could refuse it.
    """
    from rlx.policy.weights.hf_folder import read_headers

    parallel, plain = config.policy.parallel, plain_model(folder)
    split = max(parallel.cp, parallel.tp, parallel.ep, parallel.pp) > 1
    if plain is None or split or config.policy.attention is not None:
        return None
    try:
        fits = plain.fits(read_headers(folder))
    except UsageError:  # building it will say so
        return None
    layer, others = plain.layer_parameters, plain.other_parameters
    return ModelSize(plain.layers * layer + others, layer, others) if fits else None


def _build(plugin: ModelPlugin, config: Config, folder: Path, owner: str, *, weights: bool) -> nn.Module:
    """Build the network on the meta device and, if there are weights, check that they fit it."""
    import torch

    from rlx.policy.build import parameters_on_meta
    from rlx.policy.parallel.tensors import decoder_layers
    from rlx.policy.weights.hf_folder import load_hf_config
    from rlx.policy.weights.load import check_weights

    hf_config = load_hf_config(config.model, folder)
    with attribute(owner, "building the model"):
        # parameters_on_meta allocates each parameter for a moment, and keeps real buffers. A model without weights is
        # often too large for this machine, so nothing at all is allocated for it.
        with parameters_on_meta() if weights else torch.device("meta"):
            network = plugin.build(hf_config, attn_implementation=config.policy.attention)
        decoder_layers(network)
    with attribute(owner, "its weight_mapper"):
        mapper = plugin.weight_mapper(hf_config)
    if weights:
        with attribute(owner, "mapping the checkpoint"):
            check_weights(network, folder, mapper)
    return network


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
