"""The policy's tensors under their names, whole or sharded.

The rules of this part:

* A policy tensor is a parameter, or a buffer that checkpoints hold. Tied parameters are one tensor, under the first
  of their names; the other names are its aliases.
* What lies on another stage of a pipeline is on the meta device here: it is neither filled nor compared.
* `full` is a collective: all ranks call it for the same tensors in the same order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor

from rlx.models.base_model import BaseModel, longest_list

if TYPE_CHECKING:
    from torch import Tensor


def named_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Name -> parameter or persistent buffer, in the order of the network."""
    kept = set(network.state_dict(keep_vars=True))
    buffers = {name: buffer for name, buffer in network.named_buffers() if name in kept}
    return {**dict(network.named_parameters()), **buffers}


def aliases(network: nn.Module) -> dict[str, str]:
    """Further names of tied parameters -> the name that `named_tensors` gives them."""
    names: dict[int, str] = {}
    found: dict[str, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        first = names.setdefault(id(parameter), name)
        if first != name:
            found[name] = first
    return found


def decoder_layers(network: nn.Module) -> tuple[str, nn.ModuleList]:
    """The name and the list of the decoder layers: what a plugin's model says, else the longest list."""
    if not isinstance(network, BaseModel):
        return longest_list(network)
    layers = network.decoder_layers()
    return next(name for name, module in network.named_modules() if module is layers), layers


def by_layer(names: list[str], layers: str) -> list[list[str]]:
    """`names` in buckets: what surrounds the layers first, then layer by layer."""
    buckets: dict[int, list[str]] = {}
    for name in names:
        inside = name.removeprefix(f"{layers}.").split(".")[0] if name.startswith(f"{layers}.") else "-1"
        buckets.setdefault(int(inside), []).append(name)
    return [buckets[layer] for layer in sorted(buckets)]


def reshard(model: nn.Module) -> None:
    """Gives the root's shards back their names: a forward without backward leaves the gathered tensors, in the compute
    dtype, in their place. An optimizer made of those would train nothing, and weights read from them would be rounded.
    """
    assert isinstance(model, FSDPModule)
    model.reshard()


def full(tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The whole tensor, on every rank, in `dtype` where that is given and the tensor is a parameter."""
    tensor = tensor.detach() if dtype is None else tensor.detach().to(dtype)
    if not isinstance(tensor, DTensor):
        return tensor
    # FSDP, the first dimensions, cut last what others had cut: one after another, torch gathers in that order only.
    for done in range(1, tensor.device_mesh.ndim + 1):
        tensor = tensor.redistribute(placements=[Replicate()] * done + list(tensor.placements[done:]))
    return tensor.to_local()


def wire_dtype(tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    """What a policy tensor is sent in: buffers (router corrections and the like) keep their own precision."""
    return dtype if isinstance(tensor, nn.Parameter) and tensor.is_floating_point() else tensor.dtype


@torch.no_grad()
def fill(target: Tensor, whole: Tensor) -> None:
    """Copy a whole tensor, which every rank has, into `target`: each rank keeps its shard. No communication."""
    if not target.is_meta:
        local, shard = _local(target, whole)
        local.copy_(shard)


def holds(target: Tensor, whole: Tensor) -> bool:
    """Whether this rank's part of `target` is what `fill` would make it."""
    return target.is_meta or torch.equal(*_local(target, whole))


def _local(target: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
    whole = whole.to(device=target.device, dtype=target.dtype)
    if not isinstance(target, DTensor):
        return target, whole
    shard = distribute_tensor(whole, target.device_mesh, target.placements, src_data_rank=None)
    return target.to_local(), shard.to_local()
