"""The policy's network: built without memory, sharded, then filled from its checkpoint.

The rules of this part:

* No rank ever holds the whole model: parameters are made on the meta device, sharded there, and only shards get memory.
* Buffers are made for real from the first: those that no checkpoint holds (rotary frequencies) are computed in
  constructors, and would be lost on the meta device.
* Master weights are float32; forward and backward run in the config's dtype; gradients are reduced in float32, as
  sums: losses are already normalised by the counts of the whole step.
* A decoder layer is FSDP's unit. What surrounds the layers is the root's, and stays gathered from forward to backward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils.checkpoint import checkpoint

from rlx.api.base_model import BaseModel
from rlx.api.model import ModelPlugin, WeightMapper, torch_dtype
from rlx.policy.forward import PolicyModel
from rlx.policy.load import load_weights
from rlx.policy.tensors import aliases, decoder_layers, reshard

if TYPE_CHECKING:
    from rlx.config.policy import PolicyConfig
    from rlx.policy.world import World


@dataclass(frozen=True)
class Built:
    """A network on its ranks, and what is known of its checkpoint."""

    model: PolicyModel
    """The root that FSDP wraps."""
    network: nn.Module
    """The causal LM inside; its names are the policy's tensor names."""
    mapper: WeightMapper
    layers: str
    """Name of the list of decoder layers."""
    folder: Path
    hf_config: Any

    @property
    def parameters(self) -> int:
        """How many numbers the whole model has; tied ones count once."""
        return sum(parameter.numel() for parameter in self.network.parameters())


def build_policy(
    plugin: ModelPlugin, hf_config: Any, folder: Path, world: World, config: PolicyConfig, temperature: float
) -> Built:
    """Build, shard and load the policy. All ranks call it."""
    with parameters_on_meta():
        network = plugin.build(hf_config, dtype=torch.float32, attn_implementation=config.attention)
        model = PolicyModel(
            network,
            temperature=temperature,
            chunk=config.logprob_chunk,
            packing=config.packing and config.attention is None,
        )
    if isinstance(network, BaseModel):
        network.parallelize(world.mesh)
    layers, modules = decoder_layers(network)
    if config.gradient_checkpointing:
        for layer in modules:
            _recompute(layer)
    _shard(model, modules, world, torch_dtype(config.dtype))
    _materialise(model, world.device)
    built = Built(model, network, plugin.weight_mapper(hf_config), layers, folder, hf_config)
    load_weights(network, folder, built.mapper)
    model.verify()
    reshard(model)
    return built


def freeze(built: Built) -> Built:
    """Make it a reference: no gradient, evaluation mode."""
    built.model.requires_grad_(requires_grad=False).eval()
    return built


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Modules made inside have their parameters on the meta device, and real buffers."""

    def to_meta(_module: nn.Module, _name: str, parameter: nn.Parameter) -> Any:
        # Parameters that are there already keep their identity: tied ones stay tied.
        if parameter is None or parameter.is_meta:
            return None
        return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    hook = register_module_parameter_registration_hook(to_meta)
    try:
        yield
    finally:
        hook.remove()


def _recompute(layer: nn.Module) -> None:
    # Inside FSDP's own hooks, so that the second forward runs on gathered parameters; no wrapper, so that names stay.
    forward: Callable[..., Any] = layer.forward
    layer.forward = partial(checkpoint, forward, use_reentrant=False)


def _shard(model: nn.Module, layers: nn.ModuleList, world: World, dtype: torch.dtype) -> None:
    mixed = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for layer in layers:
        fully_shard(layer, mesh=world.data_mesh, mp_policy=mixed, reshard_after_forward=True)
    fully_shard(model, mesh=world.data_mesh, mp_policy=mixed, reshard_after_forward=False)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # A plain sum; gloo has no scaled one.
            module.set_force_sum_reduction_for_comms(enable=True)
            module.set_gradient_divide_factor(1.0)


def _materialise(model: nn.Module, device: torch.device) -> None:
    """Memory for this rank's shards; buffers keep their values, tied parameters stay tied."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers(remove_duplicate=False)}
    tied = aliases(model)
    model.to_empty(device=device)
    for name, buffer in model.named_buffers(remove_duplicate=False):
        buffer.copy_(buffers[name])
    for alias, name in tied.items():
        owner, _, attribute = alias.rpartition(".")
        setattr(model.get_submodule(owner), attribute, model.get_parameter(name))
