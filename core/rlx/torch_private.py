"""Names of torch without a public import path, in one place: the file to look at when torch is updated.

Each name is listed with the reason why rlx needs it. Code elsewhere that works around torch has a `noqa: SLF001`.
"""

from __future__ import annotations

from collections.abc import Sequence

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

__all__ = [
    "Backend",
    "BroadcastOptions",
    "FSDPMeshInfo",
    "HSDPMeshInfo",
    "PrefixStore",
    "ShardPlacementResult",
    "Store",
    "TCPStore",
    "all_gather_single_autograd",
    "all_to_all_single",
    "concatenate_meshes",
    "flatten_mesh",
    "reduce_scatter_single_autograd",
]


def flatten_mesh(mesh: DeviceMesh) -> DeviceMesh:
    """Return a mesh with one dimension, of the ranks of all dimensions of `mesh`."""
    return mesh._flatten()  # noqa: SLF001


def concatenate_meshes(meshes: Sequence[DeviceMesh]) -> DeviceMesh:
    """Return a mesh with the dimensions of `meshes`, in this order; all are slices of one mesh."""
    return DeviceMesh._concatenate(list(meshes))  # noqa: SLF001
