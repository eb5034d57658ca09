"""Copies a rank's share of a checkpoint into host memory, so that training goes on while it is written.

Rules:

* A chunk that several ranks hold is written by one of them. The ranks agree on this once, in the first copy; it depends
  on names and offsets only.
* The host memory is allocated in the first copy and kept: pinned memory is slow to allocate, and the next checkpoint
  needs as much.
* All ranks copy between the same two steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import msgspec
import torch
from torch.distributed.checkpoint.default_planner import create_default_local_save_plan
from torch.distributed.tensor import DTensor

from rlx.platform import PLATFORMS
from rlx.policy.weights.checkpoint import random_states, saved_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from rlx.policy.model.built import Built
    from rlx.policy.parallel.mesh import Ranks
    from rlx.policy.train.optimizer import Optimizer


@dataclass(frozen=True)
class Shard:
    """A chunk of a tensor of a checkpoint, in host memory."""

    offsets: list[int]
    """Of its first element in the whole tensor, one per dimension."""
    tensor: Tensor


class _Chunk(msgspec.Struct, frozen=True, array_like=True):
    name: str
    offsets: tuple[int, ...]
    elements: int


class Staging:
    """Copies this rank's share of the policy's state. `copy` is a collective the first time."""

    def __init__(self, ranks: Ranks, built: Built, optimizer: Optimizer) -> None:
        self._ranks = ranks
        self._built = built
        self._optimizer = optimizer
        self._shards: dict[str, Shard] | None = None

    def copy(self) -> dict[str, Shard]:
        """Copy this rank's share, and return it by name. The next call overwrites it."""
        tensors = self._tensors()
        if self._shards is None:
            self._shards = self._allocate(tensors)
        for name, shard in self._shards.items():
            shard.tensor.copy_(_local(tensors[name]), non_blocking=True)
        if PLATFORMS[self._ranks.device.type].pinned_copies:
            torch.accelerator.synchronize()
        return self._shards

    def _tensors(self) -> dict[str, Tensor]:
        # Names are `<part>.<policy tensor>`, where part is "model" or a moment.
        tensors = {
            name: tensor
            for name, tensor in saved_tensors(self._built.network, self._optimizer).items()
            if self._built.owner_stage(name.partition(".")[2]) == self._built.stage.index
        }
        return {**tensors, **random_states(self._ranks)}

    def _allocate(self, tensors: Mapping[str, Tensor]) -> dict[str, Shard]:
        held = _chunks(tensors)
        gathered = self._ranks.gather_bytes(msgspec.msgpack.encode(held))
        plans = [msgspec.msgpack.decode(payload, type=list[_Chunk]) for payload in gathered]
        pinned = PLATFORMS[self._ranks.device.type].pinned_copies
        shards = {}
        for chunk in assign(plans)[self._ranks.rank]:
            local = _local(tensors[chunk.name])
            host = torch.empty(local.shape, dtype=local.dtype, pin_memory=pinned)
            shards[chunk.name] = Shard(list(chunk.offsets), host)
        return shards


def assign(held: Sequence[Sequence[_Chunk]]) -> list[list[_Chunk]]:
    """Choose one of the ranks that hold a chunk to write it: the one with the least to write so far.

    held: the chunks of each rank. Every rank computes the same.
    """
    holders: dict[_Chunk, list[int]] = {}
    for rank, chunks in enumerate(held):
        for chunk in chunks:
            holders.setdefault(chunk, []).append(rank)
    written: list[list[_Chunk]] = [[] for _ in held]
    load = [0] * len(held)
    # Chunks with one holder first: the others then even out what these have left uneven.
    for chunk, ranks in sorted(holders.items(), key=lambda item: len(item[1])):
        rank = min(ranks, key=load.__getitem__)
        written[rank].append(chunk)
        load[rank] += chunk.elements
    return written


def _chunks(tensors: Mapping[str, Tensor]) -> list[_Chunk]:
    """Return the chunks that this rank holds, without those that are empty because others hold the whole tensor."""
    chunks = []
    for item in create_default_local_save_plan(dict(tensors), is_coordinator=True).items:
        assert item.tensor_data is not None, "only tensors are saved"
        chunk, elements = item.tensor_data.chunk, prod(item.tensor_data.chunk.sizes)
        if elements or not tensors[item.index.fqn].numel():
            chunks.append(_Chunk(item.index.fqn, tuple(chunk.offsets), elements))
    return chunks


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
