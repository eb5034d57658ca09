"""The policy's checkpoint: weights, optimizer moments and random state, saved by all ranks and read by any number.

Rules:

* Tensors go through torch's distributed checkpoint (DCP) in safetensors files: every rank writes its shards, and a
  run with another number of ranks finds the slices that it needs by their offsets.
* `state.json` is written last; a folder without it isn't a checkpoint.
* A tensor that several pipeline stages hold is written by its owner stage, and read by all.
* The caller passes a temporary folder, and commits the checkpoint by renaming it.
"""

from __future__ import annotations

import warnings
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
_MODEL = "model."
"""Prefix of the weights' names in a checkpoint; the optimizer's moments have others."""


class PolicyState(msgspec.Struct, frozen=True):
    """Contents of `state.json`."""

    step: int
    ranks: int
    """Number of data ranks, and of saved random states. Ranks that share micro-batches have the same one."""


def save(path: Path, ranks: Ranks, built: Built, optimizer: Optimizer, step: int) -> None:
    """Write a checkpoint after `step` updates at `path`. All ranks call it."""
    path.mkdir(parents=True, exist_ok=True)
    # Names are `<part>.<policy tensor>`, where part is "model" or a moment.
    tensors = {
        name: tensor
        for name, tensor in _tensors(built.network, optimizer).items()
        if built.owner_stage(name.partition(".")[2]) == built.stage.index
    }
    tensors[_random_name(ranks.data_rank)] = torch.get_rng_state()
    with _dcp_errors(f"the policy's checkpoint {path} cannot be written"):
        dcp_save(tensors, storage_writer=HuggingFaceStorageWriter(str(path), save_distributed=True))
    ranks.barrier()
    if ranks.rank == 0:
        write_atomic(path / _STATE, msgspec.json.encode(PolicyState(step, ranks.data_size)))


def load(path: Path, ranks: Ranks, network: nn.Module, optimizer: Optimizer) -> int:
    """Restore the checkpoint at `path` into a network and optimizer that were just built; return its step.

    All ranks call it.
    """
    state = read_state(path)
    rng_state = torch.get_rng_state()
    tensors = _tensors(network, optimizer)
    if ranks.data_rank < state.ranks:
        tensors[_random_name(ranks.data_rank)] = rng_state
    with _dcp_errors(f"the policy's checkpoint {path} cannot be read"):
        dcp_load(tensors, storage_reader=HuggingFaceStorageReader(str(path)))
    torch.set_rng_state(rng_state)
    optimizer.restore(state.step)
    return state.step


def read_state(path: Path) -> PolicyState:
    """Read `state.json` of a checkpoint. Raises RunError if it isn't complete."""
    try:
        return msgspec.json.decode((path / _STATE).read_bytes(), type=PolicyState)
    except (OSError, msgspec.MsgspecError) as error:
        raise RunError(f"{path} isn't a complete checkpoint of the policy: {error}") from error


def read_weights(path: Path, tensors: dict[str, Tensor]) -> None:
    """Read whole policy tensors, by their policy names, into `tensors`. Needs no other rank and no process group.

    Raises RunError if the checkpoint lacks one, or has it in another shape.
    """
    with warnings.catch_warnings(), _dcp_errors(f"the policy's checkpoint {path} cannot be read"):
        # "torch.distributed is disabled, ...", although `no_dist` says that it is meant to be.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        dcp_load(
            {f"{_MODEL}{name}": tensor for name, tensor in tensors.items()},
            storage_reader=HuggingFaceStorageReader(str(path)),
            no_dist=True,
        )


def weight_names(path: Path) -> set[str]:
    """Return the policy names of the weights that a checkpoint holds."""
    names = HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
    return {name.removeprefix(_MODEL) for name in names if name.startswith(_MODEL)}


@contextmanager
def _dcp_errors(failure: str) -> Iterator[None]:
    """Turn DCP's exception into a RunError: it isn't an `Exception`, so no boundary further up would catch it."""
    try:
        yield
    except CheckpointException as error:
        rank, (cause, _) = min(error.failures.items())
        raise RunError(f"{failure} by rank {rank}: {type(cause).__name__}: {cause}") from None


def _tensors(network: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the tensors of this rank's stage: `model.<name>` and the optimizer's moments, sharded."""
    model = {
        f"{_MODEL}{name}": tensor.detach() for name, tensor in named_tensors(network).items() if not tensor.is_meta
    }
    return {**model, **optimizer.moments()}


def _random_name(data_rank: int) -> str:
    return f"random.rank_{data_rank}"
