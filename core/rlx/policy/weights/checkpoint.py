"""Model, optimizer and random state of the policy, written by all ranks and read by any number of them.

The rules of this part:

* Tensors go through torch DCP in safetensors files: every rank writes its shards, and a reader with another number of
  ranks finds what it needs by offsets. There is no pickle in a checkpoint.
* `state.json` is written last; without it there is no checkpoint.
* A tensor that lies on several stages of a pipeline is written by the one that tells it, and read by all.
* The caller names a folder that does not count until it renames it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

from rlx.errors import RunError
from rlx.files import write_atomic
from rlx.policy.parallel.tensors import named_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rlx.policy.model.built import Built
    from rlx.policy.parallel.mesh import Ranks
    from rlx.policy.train.optimizer import Optimizer

_STATE = "state.json"


class State(msgspec.Struct, frozen=True):
    """What a checkpoint holds besides tensors."""

    step: int
    ranks: int
    """Those with micro-batches of their own. Each has its random state here; who shares its micro-batches shares it."""


def save(path: Path, world: Ranks, built: Built, optimizer: Optimizer, step: int) -> None:
    """Write a checkpoint of `step` updates at `path`. All ranks call it."""
    path.mkdir(parents=True, exist_ok=True)
    held = _tensors(built.network, optimizer)
    tensors = {name: tensor for name, tensor in held.items() if built.owner_stage(_of(name)) == built.stage.index}
    tensors[_random_name(world.data_rank)] = torch.get_rng_state()
    with _named(f"the policy's checkpoint {path} cannot be written"):
        dcp_save(tensors, storage_writer=HuggingFaceStorageWriter(str(path), save_distributed=True))
    world.barrier()
    if world.rank == 0:
        write_atomic(path / _STATE, msgspec.json.encode(State(step, world.data_size)))


def load(path: Path, world: Ranks, network: nn.Module, optimizer: Optimizer) -> int:
    """Read a checkpoint into what was just built; returns its step. All ranks call it."""
    try:
        state = msgspec.json.decode((path / _STATE).read_bytes(), type=State)
    except (OSError, msgspec.MsgspecError) as error:
        raise RunError(f"{path} is no whole checkpoint of the policy: {error}") from error
    random = torch.get_rng_state()
    tensors = _tensors(network, optimizer)
    if world.data_rank < state.ranks:
        tensors[_random_name(world.data_rank)] = random
    with _named(f"the policy's checkpoint {path} cannot be read"):
        dcp_load(tensors, storage_reader=HuggingFaceStorageReader(str(path)))
    torch.set_rng_state(random)
    optimizer.restore(state.step)
    return state.step


@contextmanager
def _named(what: str) -> Iterator[None]:
    """DCP's exception is no `Exception`: nobody further up would take it for a failure of this rank."""
    try:
        yield
    except CheckpointException as error:
        rank, (cause, _) = min(error.failures.items())
        raise RunError(f"{what} by rank {rank}: {type(cause).__name__}: {cause}") from None


def _tensors(network: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    model = {f"model.{name}": tensor.detach() for name, tensor in named_tensors(network).items() if not tensor.is_meta}
    return {**model, **optimizer.moments()}


def _of(name: str) -> str:
    """The policy tensor that a tensor of a checkpoint is, or is a moment of."""
    return name.partition(".")[2]


def _random_name(rank: int) -> str:
    return f"random.rank_{rank}"
