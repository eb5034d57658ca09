"""The policy's network: built without memory, sharded, then filled from its checkpoint.

The rules of this part:

* No rank ever holds the whole model: parameters are made on the meta device, sharded there, and only shards get memory.
* Buffers are made for real from the first: those that no checkpoint holds (rotary frequencies) are computed in
  constructors, and would be lost on the meta device.
* Master weights are float32; forward and backward run in the config's dtype; gradients are reduced in float32, as
  sums: losses are already normalised by the counts of the whole step.
* What lies on another stage of a pipeline stays on the meta device for good.
* A decoder layer is FSDP's unit. What surrounds the layers is the root's, and stays gathered from forward to backward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

# Named by `fully_shard`, and exported by nothing.
from torch.distributed.fsdp._fully_shard._fsdp_common import FSDPMeshInfo, HSDPMeshInfo, ShardPlacementResult
from torch.distributed.tensor import DTensor, Shard
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils.checkpoint import checkpoint

from rlx.models.plugin import ModelPlugin, torch_dtype
from rlx.policy.model.built import Built
from rlx.policy.model.forward import PolicyModel
from rlx.policy.model.parallel_checks import check_layout, check_packed
from rlx.policy.model.self_check import verify
from rlx.policy.parallel.context_parallel import context_of
from rlx.policy.parallel.pipeline import Stage, cut, places_of
from rlx.policy.parallel.schedule import Pipeline
from rlx.policy.parallel.tensors import aliases, decoder_layers, reshard
from rlx.policy.weights.load import load_weights

if TYPE_CHECKING:
    from rlx.config.sections.policy import PolicyConfig
    from rlx.policy.parallel.mesh import Ranks


def build_policy(
    plugin: ModelPlugin, hf_config: Any, folder: Path, world: Ranks, config: PolicyConfig, temperature: float
) -> Built:
    """Build, shard and load the policy. All ranks call it."""
    stage = Stage.of(world.mesh["pp"])
    with parameters_on_meta():
        network = plugin.build(hf_config, dtype=torch.float32, attn_implementation=config.attention)
        model = PolicyModel(
            network,
            temperature=temperature,
            chunk=config.logprob_chunk,
            packing=config.packing and config.attention is None,
            context=context_of(world.mesh["cp"], world.mesh["tp"]),
        )
    check_layout(model.network, config)
    model.network.parallelize(world.mesh)
    places = _cut(model, stage, config)
    parameters = network.named_parameters()
    elsewhere = {parameter for name, parameter in parameters if stage.index not in places.get(name, (0,))}
    layers, modules = decoder_layers(network)
    own = [layer for layer in modules if not elsewhere.intersection(layer.parameters())]
    if config.gradient_checkpointing:
        for layer in own:
            _recompute(layer)
    _shard(model, own, elsewhere, world, torch_dtype(config.dtype))
    _materialise(model, elsewhere, world.device)
    built = Built(
        model, network, plugin.weight_mapper(hf_config), layers, folder, hf_config, world.device, stage, places
    )
    load_weights(network, folder, built.mapper)
    findings = verify(model)
    check_packed(model, config, findings)
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


def _cut(model: PolicyModel, stage: Stage, config: PolicyConfig) -> Mapping[str, tuple[int, ...]]:
    """Make it one of several stages; returns where tensors lie."""
    if stage.count == 1:
        return {}
    parts = model.network.parts()
    pipeline = Pipeline(stage, cut(parts, stage), model.network.width, torch_dtype(config.dtype), config.parallel.cp)
    model.go_through(pipeline, last=stage.last)
    return places_of(model.causal_lm, parts, stage.count)


def _shard(
    model: nn.Module, layers: Sequence[nn.Module], elsewhere: set[nn.Parameter], world: Ranks, dtype: torch.dtype
) -> None:
    options: dict[str, Any] = {
        "mesh": world.sharding_mesh(),
        "mp_policy": MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32),
        "shard_placement_fn": _placed(world),
    }
    for layer in layers:
        fully_shard(layer, reshard_after_forward=True, **options)
    fully_shard(model, reshard_after_forward=False, ignored_params=elsewhere, **options)
    if options["mesh"].size() > 1:
        _reduce_by_sums(model)


def _reduce_by_sums(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Gloo has no scaled one.
            module.set_force_sum_reduction_for_comms(enable=True)
            module.set_gradient_divide_factor(1.0)


def _placed(world: Ranks) -> Callable[[nn.Parameter], ShardPlacementResult | None]:
    """Over which ranks a parameter is sharded that others split before."""

    @cache
    def ranks(split: frozenset[str]) -> FSDPMeshInfo:
        mesh = world.sharding_mesh(split)
        return FSDPMeshInfo(mesh, 0) if mesh.ndim == 1 else HSDPMeshInfo(mesh, 1, 0)

    def placed(parameter: nn.Parameter) -> ShardPlacementResult | None:
        if not isinstance(parameter, DTensor):
            return None
        return ShardPlacementResult(Shard(0), ranks(frozenset(parameter.device_mesh.mesh_dim_names or ())))

    return placed


def _materialise(model: nn.Module, elsewhere: set[nn.Parameter], device: torch.device) -> None:
    """Memory for this rank's shards; buffers keep their values, tied parameters stay tied."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers(remove_duplicate=False)}
    tied = aliases(model)
    for module in model.modules():
        if not elsewhere.intersection(module.parameters(recurse=False)):
            module.to_empty(device=device, recurse=False)
        else:
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, torch.empty_like(buffer, device=device))
    for name, buffer in model.named_buffers(remove_duplicate=False):
        buffer.copy_(buffers[name])
    for alias, name in tied.items():
        owner, _, attribute = alias.rpartition(".")
        setattr(model.get_submodule(owner), attribute, model.get_parameter(name))
