"""Names of torch without a public import path, in one place: the file to look at when torch is updated.

Each name is listed with the reason why rlx needs it. Code elsewhere that works around torch has a `noqa: SLF001`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor

# `torch.distributed` has these names, but doesn't export them in a way that type checkers accept. Its own `Backend` is
# another class; this one is the base of gloo and NCCL.
from torch._C._distributed_c10d import Backend, BroadcastOptions, PrefixStore, Store, TCPStore

# Collectives that autograd and torch.compile see as functions; the public in-place ones have no gradient.
from torch.distributed._functional_collectives import (
    all_gather_single_autograd,
    all_to_all_single,
    reduce_scatter_single_autograd,
)
from torch.distributed.device_mesh import DeviceMesh

# Returned by the function that `fully_shard` takes as its public argument `shard_placement_fn`.
from torch.distributed.fsdp._fully_shard._fsdp_common import FSDPMeshInfo, HSDPMeshInfo, ShardPlacementResult

# Sees every operation on tensors in its scope, in-place copies included.
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = [
    "Backend",
    "BroadcastOptions",
    "FSDPMeshInfo",
    "HSDPMeshInfo",
    "PrefixStore",
    "ShardPlacementResult",
    "Store",
    "TCPStore",
    "TorchDispatchMode",
    "all_gather_single_autograd",
    "all_to_all_single",
    "concatenate_meshes",
    "flatten_mesh",
    "reduce_scatter_single_autograd",
    "storage_id",
]


def flatten_mesh(mesh: DeviceMesh) -> DeviceMesh:
    """Return a mesh with one dimension, of the ranks of all dimensions of `mesh`."""
    return mesh._flatten()  # noqa: SLF001


def concatenate_meshes(meshes: Sequence[DeviceMesh]) -> DeviceMesh:
    """Return a mesh with the dimensions of `meshes`, in this order; all are slices of one mesh."""
    return DeviceMesh._concatenate(list(meshes))  # noqa: SLF001


def storage_id(tensor: Tensor) -> int:
    """Return a number that views of one tensor share, and no other tensor has, on any device (meta too)."""
    return cast("int", tensor.untyped_storage()._cdata)  # noqa: SLF001
