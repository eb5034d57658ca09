"""A model folder's weights into a sharded network.

The rules of this part:

* Tensors are read one after another; each rank keeps its own shard and drops the rest.
* Every policy tensor must be there, in the right shape, and every tensor of the folder must have a place. Nothing is
  left at what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rlx.errors import UsageError
from rlx.policy.parallel.tensors import aliases, fill_shard, named_tensors, shard_equals
from rlx.policy.weights.hf_folder import read_shapes, read_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rlx.models.plugin import WeightMapper

_SHOWN = 8


def load_weights(network: nn.Module, folder: Path, mapper: WeightMapper) -> None:
    """Raises UsageError that names the tensors which are missing, surplus, or of another shape. All ranks call it."""
    _load(network, folder, mapper.hf_to_policy(read_tensors(folder)), fill_shard, shard_equals)


def check_weights(network: nn.Module, folder: Path, mapper: WeightMapper) -> None:
    """Raises what `load_weights` would, from the headers of the files alone: a network on `meta` does."""
    _load(network, folder, mapper.hf_to_policy(read_shapes(folder)), lambda *_: None, lambda *_: True)


def _load(
    network: nn.Module,
    folder: Path,
    tensors: Iterator[tuple[str, Tensor]],
    put: Callable[[Tensor, Tensor], None],
    same: Callable[[Tensor, Tensor], bool],
) -> None:
    targets = named_tensors(network)
    tied = aliases(network)
    loaded: set[str] = set()
    surplus: list[str] = []
    for name, tensor in tensors:
        own = tied.get(name, name)
        if own not in targets:
            surplus.append(name)
            continue
        _check_shape(folder, name, tensor, targets[own])
        if own not in loaded:
            put(targets[own], tensor)
            loaded.add(own)
        elif not same(targets[own], tensor):
            raise UsageError(f"{folder}: {name} differs from the tensor that config.json ties it to.")
    _complete(folder, missing=[name for name in targets if name not in loaded], surplus=surplus)


def _check_shape(folder: Path, name: str, tensor: Tensor, target: Tensor) -> None:
    if target.shape != tensor.shape:
        raise UsageError(
            f"{folder}: {name} has the shape {list(tensor.shape)}; by config.json it must be {list(target.shape)}."
        )


def _complete(folder: Path, *, missing: list[str], surplus: list[str]) -> None:
    problems = [
        f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{' ...' if len(names) > _SHOWN else ''}"
        for what, names in (("missing", missing), ("that the model has no place for", surplus))
        if names
    ]
    if problems:
        raise UsageError(
            f"The weights in {folder} do not fit its config.json. Tensors {'; tensors '.join(problems)}.\n"
            "Is the folder complete, and is [model] plugin the right one for this architecture?"
        )
