"""The ranks of the policy: their device mesh, and collectives on bytes and numbers.

Rules:

* The mesh has a named dimension for each kind of parallelism, in the order of `DIMENSIONS`, outermost first. Code
  asks for dimensions by name, and never whether one is in use: a dimension of size 1 works like any other.
* Ranks that differ in dp_replicate, dp_shard or ep have micro-batches of their own. Ranks that differ in cp, tp or pp
  share micro-batches, and compute the same losses, metrics and scores. Sums count each micro-batch once.
* Parameters are sharded over dp_shard, cp, ep and tp together; parameters that ep or tp has split, over the rest of
  these dimensions.
* Commands, counts and texts go over a gloo group of their own on the CPU, whatever the device is, and never as pickle.
* No collective is relied on to report the death of a rank: `rlx.policy.failures` does. The timeout here is the last
  resort.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from rlx.torch_private import PrefixStore, Store, TCPStore, concatenate_meshes, flatten_mesh

if TYPE_CHECKING:
    from rlx.config.sections.policy import ParallelConfig
    from rlx.platform import Platform

DIMENSIONS = ("pp", "dp_replicate", "dp_shard", "cp", "ep", "tp")
FSDP_DIMENSIONS = ("dp_shard", "cp", "ep", "tp")
"""Dimensions that are flattened into FSDP's shard dimension."""
COLLECTIVE_SECONDS = 1800.0


@dataclass(frozen=True)
class Ranks:
    """The policy's ranks, seen from one of them."""

    rank: int
    size: int
    device: torch.device
    mesh: DeviceMesh
    data_rank: int
    """Index of the share of a step that this rank computes."""
    data_size: int
    """Number of shares of a step."""
    leads: bool
    """Whether this is the first of the ranks that compute this share."""
    control: dist.ProcessGroup

    def barrier(self) -> None:
        """Wait until every rank has called this."""
        dist.all_reduce(torch.zeros(1), group=self.control)

    def broadcast_bytes(self, data: bytes | None) -> bytes:
        """Return rank 0's `data` on every rank; the other ranks pass None."""
        length = torch.tensor([len(data) if data is not None else 0])
        dist.broadcast(length, 0, group=self.control)
        buffer = _bytes_tensor(data or b"", int(length))
        if buffer.numel():
            dist.broadcast(buffer, 0, group=self.control)
        return buffer.numpy().tobytes()

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """Return every rank's `data`, in the order of ranks, on every rank."""
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(data)]), group=self.control)
        sizes = [int(length) for length in lengths]
        parts = [torch.empty(max(*sizes, 1), dtype=torch.uint8) for _ in range(self.size)]
        dist.all_gather(parts, _bytes_tensor(data, max(*sizes, 1)), group=self.control)
        return [part[:size].numpy().tobytes() for part, size in zip(parts, sizes, strict=True)]

    def sums(self, values: Sequence[float]) -> list[float]:
        """Sum `values` over the shares of a step, in float64."""
        own = values if self.leads else [0.0] * len(values)
        return self._all_reduce(own, dist.ReduceOp.SUM)

    def maxima(self, values: Sequence[float]) -> list[float]:
        """Return the maximum of each of `values` over all ranks."""
        return self._all_reduce(values, dist.ReduceOp.MAX)

    def _all_reduce(self, values: Sequence[float], op: dist.ReduceOp.RedOpType) -> list[float]:
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, op=op, group=self.control)
        return [float(value) for value in tensor]

    def fsdp_mesh(self, split: frozenset[str] = frozenset()) -> DeviceMesh:
        """Return the mesh over which FSDP shards parameters that the dimensions `split` have already split.

        It has one dimension, or two if sharded copies are replicated (HSDP).
        """
        shards = flatten_mesh(self.mesh[tuple(name for name in FSDP_DIMENSIONS if name not in split)])
        copies = self.mesh["dp_replicate"]
        return shards if copies.size() == 1 else concatenate_meshes([copies, shards])

    def close(self) -> None:
        """Destroy the process groups. No collectives after this."""
        dist.destroy_process_group()


def join_ranks(platform: Platform, parallel: ParallelConfig) -> Ranks:
    """Join the process group that the environment describes (torch elastic sets it). Every rank must call it."""
    timeout = timedelta(seconds=COLLECTIVE_SECONDS)
    dist.init_process_group(platform.collectives, timeout=timeout)
    sizes = {name: parallel.sizes[name] for name in DIMENSIONS}
    mesh = init_device_mesh(platform.device, tuple(sizes.values()), mesh_dim_names=DIMENSIONS)
    coord = {name: mesh.get_local_rank(name) for name in DIMENSIONS}
    control = dist.new_group(backend="gloo", timeout=timeout)
    assert control is not None
    return Ranks(
        rank=dist.get_rank(),
        size=dist.get_world_size(),
        device=torch.device(platform.device),
        mesh=mesh,
        data_rank=(coord["dp_replicate"] * sizes["dp_shard"] + coord["dp_shard"]) * sizes["ep"] + coord["ep"],
        data_size=parallel.data_size,
        leads=not (coord["cp"] or coord["tp"] or coord["pp"]),
        control=control,
    )


def rendezvous_store() -> Store:
    """Open another connection to the store at which the ranks meet.

    Torch elastic's agent serves it, so it outlives the ranks.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return PrefixStore("rlx", TCPStore(address, port, is_master=False, timeout=timedelta(seconds=COLLECTIVE_SECONDS)))


def _bytes_tensor(data: bytes, size: int) -> torch.Tensor:
    tensor = torch.zeros(size, dtype=torch.uint8)
    if data:
        tensor[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return tensor
