"""Loads a model folder's weights into a sharded network.

Rules:

* Tensors are read one after another; each rank keeps its own shard and drops the rest.
* Every policy tensor must be in the folder, with the right shape, and every tensor of the folder must have a place. No
  tensor keeps its initial value.
* Only buffers that older versions of transformers saved, and newer ones compute, are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rlx.errors import UsageError
from rlx.policy.parallel.tensors import aliases, fill_shard, named_tensors, shard_equals
from rlx.policy.weights.hf_folder import read_meta_tensors, read_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rlx.models.plugin import WeightMapper

_SHOWN = 8
_COMPUTED = re.compile(r"(^|\.)(rotary_emb\.inv_freq|position_ids|rope\.freqs)$")
_CAUSAL_MASK = re.compile(r"(^|\.)(attn|attention|self_attention)\.(masked_)?bias$")


def load_weights(network: nn.Module, folder: Path, mapper: WeightMapper) -> None:
    """Load the folder's weights. All ranks call it.

    Raises UsageError, which names the tensors, if some are missing, surplus, or of another shape.
    """
    _load(network, folder, mapper.hf_to_policy(read_tensors(folder)), fill_shard, shard_equals)


def check_weights(network: nn.Module, folder: Path, mapper: WeightMapper) -> None:
    """Raise what `load_weights` would raise, by reading only the headers. The network may be on the meta device."""
    _load(network, folder, mapper.hf_to_policy(read_meta_tensors(folder)), lambda *_: None, lambda *_: True)


def is_computed_buffer(name: str, tensor: Tensor) -> bool:
    """Return whether this is a buffer that older checkpoints hold and that models compute: rotary frequencies, position
    ids, or the causal mask of the GPT-2 family (which, unlike a bias, has not one dimension).
    """
    return _COMPUTED.search(name) is not None or (_CAUSAL_MASK.search(name) is not None and tensor.dim() != 1)


def _load(
    network: nn.Module,
    folder: Path,
    tensors: Iterator[tuple[str, Tensor]],
    fill_target: Callable[[Tensor, Tensor], None],
    equals: Callable[[Tensor, Tensor], bool],
) -> None:
    """Match the tensors with the network's by name and shape, and fill each one; a tied one again must be equal."""
    targets = named_tensors(network)
    tied = aliases(network)
    loaded: set[str] = set()
    surplus: list[str] = []
    for name, tensor in tensors:
        first = tied.get(name, name)
        if first not in targets:
            if not is_computed_buffer(name, tensor):
                surplus.append(name)
            continue
        target = targets[first]
        if target.shape != tensor.shape:
            raise UsageError(
                f"{folder}: {name} has the shape {list(tensor.shape)}; "
                f"according to config.json it must be {list(target.shape)}."
            )
        if first not in loaded:
            fill_target(target, tensor)
            loaded.add(first)
        elif not equals(target, tensor):
            raise UsageError(f"{folder}: {name} differs from the tensor that config.json ties it to.")
    missing = [name for name in targets if name not in loaded]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{' ...' if len(names) > _SHOWN else ''}"
        for what, names in (("missing", missing), ("not in the model", surplus))
        if names
    ]
    if problems:
        raise UsageError(
            f"The weights in {folder} do not fit its config.json. Tensors: {'; '.join(problems)}.\n"
            "Is the folder complete, and is [model] plugin the right one for this architecture?"
        )
