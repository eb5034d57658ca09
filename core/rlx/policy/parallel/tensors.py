"""The policy's tensors by name, whole or sharded.

Rules:

* A policy tensor is a parameter, or a buffer that checkpoints hold. Tied parameters are one tensor, under the first of
  their names; the other names are its aliases.
* A tensor of another pipeline stage is on the meta device here, and is neither filled nor compared.
* `gather_full` is a collective: all ranks call it for the same tensors in the same order.
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
    """Return the parameters and persistent buffers by name, in the network's order."""
    kept = set(network.state_dict(keep_vars=True))
    buffers = {name: buffer for name, buffer in network.named_buffers() if name in kept}
    return {**dict(network.named_parameters()), **buffers}


def aliases(network: nn.Module) -> dict[str, str]:
    """Map the additional names of tied parameters to the name that `named_tensors` gives them."""
    names: dict[int, str] = {}
    found: dict[str, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        first = names.setdefault(id(parameter), name)
        if first != name:
            found[name] = first
    return found


def decoder_layers(network: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the list of decoder layers and its name: the one that a `BaseModel` names, else the longest list."""
    if not isinstance(network, BaseModel):
        return longest_list(network)
    layers = network.decoder_layers()
    return next(name for name, module in network.named_modules() if module is layers), layers


def by_layer(names: list[str], layers: str) -> list[list[str]]:
    """Group `names` into buckets: names outside of the layers first, then layer by layer."""
    buckets: dict[int, list[str]] = {}
    for name in names:
        layer = int(name.removeprefix(f"{layers}.").split(".")[0]) if name.startswith(f"{layers}.") else -1
        buckets.setdefault(layer, []).append(name)
    return [buckets[layer] for layer in sorted(buckets)]


def reshard(model: nn.Module) -> None:
    """Reshard the parameters of FSDP's root module.

    A forward without backward leaves its gathered tensors, in the compute dtype, in place of the shards. An optimizer
    made of those would train nothing, and weights read from them would be rounded.
    """
    assert isinstance(model, FSDPModule)
    model.reshard()


def gather_full(tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return the whole tensor on every rank, converted to `dtype` first if given."""
    tensor = tensor.detach() if dtype is None else tensor.detach().to(dtype)
    if not isinstance(tensor, DTensor):
        return tensor
    # FSDP's dimensions come first in the mesh, but it split last, after tp or ep. torch gathers correctly only if
    # dimensions are gathered one after another, in the order of the mesh.
    for gathered in range(1, tensor.device_mesh.ndim + 1):
        tensor = tensor.redistribute(placements=[Replicate()] * gathered + list(tensor.placements[gathered:]))
    return tensor.to_local()


def wire_dtype(tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which a policy tensor is sent: `dtype` for parameters, their own for buffers.

    Buffers, such as a router's bias correction, keep their precision.
    """
    return dtype if isinstance(tensor, nn.Parameter) and tensor.is_floating_point() else tensor.dtype


@torch.no_grad()
def fill_shard(target: Tensor, whole: Tensor) -> None:
    """Copy this rank's shard of a whole tensor, which every rank has, into `target`. No communication."""
    if not target.is_meta:
        local, shard = _shards(target, whole)
        local.copy_(shard)


def shard_equals(target: Tensor, whole: Tensor) -> bool:
    """Return whether this rank's shard of `target` has the values that `fill_shard` would give it."""
    return target.is_meta or torch.equal(*_shards(target, whole))


def _shards(target: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
    """Return this rank's shards of `target` and of `whole`."""
    whole = whole.to(device=target.device, dtype=target.dtype)
    if not isinstance(target, DTensor):
        return target, whole
    shard = distribute_tensor(whole, target.device_mesh, target.placements, src_data_rank=None)
    return target.to_local(), shard.to_local()
