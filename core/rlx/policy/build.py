"""Builds the policy's network on the meta device, shards it, and loads its checkpoint.

Rules:

* No rank ever holds the whole model: parameters are created on the meta device, sharded there, and only shards get
  memory.
* Buffers are real from the start: those that no checkpoint holds (rotary frequencies) are computed in constructors, and
  would be lost on the meta device.
* Master weights are float32; forward and backward run in the config's dtype; gradients are reduced in float32, as
  sums: losses are already normalised by the counts of the whole step.
* Tensors of other pipeline stages stay on the meta device for good.
* FSDP wraps each decoder layer. The root wraps everything else, which stays gathered from forward to backward.
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
from torch.distributed.tensor import DTensor, Shard
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils.checkpoint import checkpoint

from rlx.models.base_model import HFConfig
from rlx.models.plugin import ModelPlugin, torch_dtype
from rlx.policy.model.built import Built
from rlx.policy.model.forward import PolicyModel
from rlx.policy.model.parallel_checks import check_packing, check_parallel
from rlx.policy.model.self_check import check_attention, self_check
from rlx.policy.parallel.context_parallel import row_sharding
from rlx.policy.parallel.pipeline import Stage, keep_stage, tensor_stages
from rlx.policy.parallel.schedule import Pipeline
from rlx.policy.parallel.tensors import aliases, decoder_layers, reshard
from rlx.policy.weights.load import load_weights
from rlx.torch_private import FSDPMeshInfo, HSDPMeshInfo, ShardPlacementResult

if TYPE_CHECKING:
    from rlx.config.sections.policy import PolicyConfig
    from rlx.policy.parallel.mesh import Ranks


def build_policy(
    plugin: ModelPlugin, hf_config: HFConfig, folder: Path, ranks: Ranks, config: PolicyConfig, temperature: float
) -> Built:
    """Build, shard and load the policy. All ranks call it."""
    stage = Stage.from_mesh(ranks.mesh["pp"])
    with parameters_on_meta():
        network = plugin.build(hf_config, dtype=torch.float32, attn_implementation=config.attention)
        model = PolicyModel(
            network,
            temperature=temperature,
            chunk=config.logprob_chunk,
            packing=config.packing and config.attention is None,
            row_sharding=row_sharding(ranks.mesh["cp"], ranks.mesh["tp"]),
        )
    check_attention(model.adapter, config)
    check_parallel(model.adapter, config)
    model.adapter.parallelize(ranks.mesh)
    stages = _apply_pipeline(model, stage, config)
    other_stages = {
        parameter for name, parameter in network.named_parameters() if stage.index not in stages.get(name, (0,))
    }
    layers, modules = decoder_layers(network)
    own_layers = [layer for layer in modules if not other_stages.intersection(layer.parameters())]
    if config.gradient_checkpointing:
        for layer in own_layers:
            # Inside FSDP's hooks, so that recomputation runs on gathered parameters. A wrapper module would change the
            # names of parameters.
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    _apply_fsdp(model, own_layers, other_stages, ranks, torch_dtype(config.dtype))
    _materialise(model, other_stages, ranks.device)
    mapper = plugin.weight_mapper(hf_config)
    load_weights(network, folder, mapper)
    check_packing(model, config, self_check(model, config))
    reshard(model)
    return Built(model, network, mapper, layers, folder, hf_config, ranks.device, stage, stages)


def freeze(built: Built) -> Built:
    """Make `built` a reference model, in place: no gradients, evaluation mode."""
    built.model.requires_grad_(requires_grad=False).eval()
    return built


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Create the parameters of modules on the meta device, and their buffers for real."""

    # torch registers the returned parameter instead of the given one, or the given one if the hook returns None.
    def to_meta(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> Any:
        # A parameter that is on the meta device already keeps its identity: tied ones stay tied.
        if parameter is None or parameter.is_meta:
            return None
        return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    hook = register_module_parameter_registration_hook(to_meta)
    try:
        yield
    finally:
        hook.remove()


def _apply_pipeline(model: PolicyModel, stage: Stage, config: PolicyConfig) -> Mapping[str, tuple[int, ...]]:
    """Make the model compute this rank's stage only. Return the stages of each tensor; empty without pp."""
    if stage.count == 1:
        return {}
    parts = model.adapter.pipeline_parts()
    boundary = keep_stage(parts, stage)
    pipeline = Pipeline(stage, boundary, parts.hidden_size, torch_dtype(config.dtype), config.parallel.cp)
    model.use_schedule(pipeline, last_stage=stage.last)
    return tensor_stages(model.causal_lm, parts, stage.count)


def _apply_fsdp(
    model: nn.Module, layers: Sequence[nn.Module], ignored: set[nn.Parameter], ranks: Ranks, dtype: torch.dtype
) -> None:
    mesh = ranks.fsdp_mesh()
    wrap = partial(
        fully_shard,
        mesh=mesh,
        mp_policy=MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32),
        shard_placement_fn=_shard_placement(ranks),
    )
    for layer in layers:
        wrap(layer, reshard_after_forward=True)
    wrap(model, reshard_after_forward=False, ignored_params=ignored)
    if mesh.size() == 1:
        return
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Sums instead of means. Gloo can't scale while it reduces.
            module.set_force_sum_reduction_for_comms(enable=True)
            module.set_gradient_divide_factor(1.0)


def _shard_placement(ranks: Ranks) -> Callable[[nn.Parameter], ShardPlacementResult | None]:
    """Return FSDP's `shard_placement_fn`: parameters that tp or ep split are sharded over the other ranks."""

    @cache
    def mesh_info(split: frozenset[str]) -> FSDPMeshInfo:
        mesh = ranks.fsdp_mesh(split)
        return FSDPMeshInfo(mesh, 0) if mesh.ndim == 1 else HSDPMeshInfo(mesh, 1, 0)

    def placement(parameter: nn.Parameter) -> ShardPlacementResult | None:
        if not isinstance(parameter, DTensor):
            return None
        return ShardPlacementResult(Shard(0), mesh_info(frozenset(parameter.device_mesh.mesh_dim_names or ())))

    return placement


def _materialise(model: nn.Module, other_stages: set[nn.Parameter], device: torch.device) -> None:
    """Allocate this rank's shards on `device`. Buffers keep their values, tied parameters stay tied."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers(remove_duplicate=False)}
    tied = aliases(model)
    for module in model.modules():
        if not other_stages.intersection(module.parameters(recurse=False)):
            module.to_empty(device=device, recurse=False)
        else:
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, torch.empty_like(buffer, device=device))
    for name, buffer in model.named_buffers(remove_duplicate=False):
        buffer.copy_(buffers[name])
    for alias, name in tied.items():
        owner, _, attribute = alias.rpartition(".")
        setattr(model.get_submodule(owner), attribute, model.get_parameter(name))
