"""The policy's checkpoint: weights, optimizer moments and random state, read by any number of ranks.

`staging.py` and `writer.py` write it.

Rules:

* Tensors are in safetensors files, in the layout of torch's distributed checkpoint (DCP): every rank writes its shards
  with their offsets, and a run with another number of ranks finds the slices that it needs by these.
* Each rank reads for itself. No collective is needed, and nothing is ever unpickled: DCP's collectives would exchange
  pickles between the ranks.
* `state.json` is written last; a folder without it isn't a checkpoint.
* A tensor that several pipeline stages hold is written by its owner stage, and read by all.
* The caller passes a temporary folder, and commits the checkpoint by renaming it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch
from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load

from rlx.errors import RunError, described
from rlx.policy.parallel.tensors import named_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rlx.policy.parallel.mesh import Ranks
    from rlx.policy.train.optimizer import Optimizer

STATE = "state.json"
_MODEL = "model."
"""Prefix of the weights' names in a checkpoint; the optimizer's moments have others."""


class PolicyState(msgspec.Struct, frozen=True):
    """Contents of `state.json`."""

    step: int
    ranks: int
    """Number of data ranks, and of saved random states. Ranks that share micro-batches have the same one."""


def load(path: Path, ranks: Ranks, network: nn.Module, optimizer: Optimizer) -> int:
    """Restore the checkpoint at `path` into a network and optimizer that were just built; return its step.

    All ranks call it.
    """
    state = read_state(path)
    tensors = saved_tensors(network, optimizer)
    # A rank that the saved run did not have keeps the random state that its seed gives it. A checkpoint made on another
    # kind of device has no state of this one's generator.
    random = {name: value for name, value in random_states(ranks).items() if name in _names(path)}
    _read({**tensors, **random}, path)
    restore_random_states(ranks, random)
    optimizer.restore(state.step)
    return state.step


def read_state(path: Path) -> PolicyState:
    """Read `state.json` of a checkpoint. Raises RunError if it isn't complete."""
    try:
        return msgspec.json.decode((path / STATE).read_bytes(), type=PolicyState)
    except (OSError, msgspec.MsgspecError) as error:
        raise RunError(f"{path} isn't a complete checkpoint of the policy: {error}") from error


def read_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Read whole policy tensors, by their policy names, into `tensors`. Needs no other rank and no process group.

    Raises RunError if the checkpoint lacks one, or has it in another shape.
    """
    _read({f"{_MODEL}{name}": tensor for name, tensor in tensors.items()}, path)


def weight_names(path: Path) -> set[str]:
    """Return the policy names of the weights that a checkpoint holds."""
    return {name.removeprefix(_MODEL) for name in _names(path) if name.startswith(_MODEL)}


def saved_tensors(network: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the tensors of this rank's stage: `model.<name>` and the optimizer's moments, sharded."""
    model = {
        f"{_MODEL}{name}": tensor.detach() for name, tensor in named_tensors(network).items() if not tensor.is_meta
    }
    return {**model, **optimizer.moments()}


def random_states(ranks: Ranks) -> dict[str, Tensor]:
    """Return the states of this rank's random number generators: the CPU's, and the device's if it has its own."""
    states = {f"random.rank_{ranks.data_rank}": torch.get_rng_state()}
    if ranks.device.type != "cpu":
        device = torch.get_device_module(ranks.device)
        states[f"random.{ranks.device.type}.rank_{ranks.data_rank}"] = device.get_rng_state(ranks.device)
    return states


def restore_random_states(ranks: Ranks, states: Mapping[str, Tensor]) -> None:
    """Set the random number generators to `states`, as `random_states` names them; others stay as they are."""
    for name, state in states.items():
        if name.startswith("random.rank_"):
            torch.set_rng_state(state)
        else:
            torch.get_device_module(ranks.device).set_rng_state(state, ranks.device)


def _names(path: Path) -> set[str]:
    with _dcp_errors(path):
        return set(HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata)


def _read(tensors: dict[str, Tensor], path: Path) -> None:
    """Read this rank's shards of `tensors`, in place."""
    with warnings.catch_warnings(), _dcp_errors(path):
        # "torch.distributed is disabled, ...", although `no_dist` says that it is meant to be.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        dcp_load(tensors, storage_reader=HuggingFaceStorageReader(str(path)), no_dist=True)


@contextmanager
def _dcp_errors(path: Path) -> Iterator[None]:
    """Turn errors of reading into RunError. DCP's own isn't an `Exception`: no boundary further up would catch it."""
    failure = f"the policy's checkpoint {path} cannot be read"
    try:
        yield
    except CheckpointException as error:
        _, (cause, _) = min(error.failures.items())
        raise RunError(f"{failure}: {type(cause).__name__}: {cause}") from None
    except (OSError, SafetensorError) as error:
        raise RunError(f"{failure}: {described(error)}") from error
