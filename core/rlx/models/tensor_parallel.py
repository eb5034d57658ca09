"""Tensor parallelism: ranks that share the matrices of a block, and between blocks the token slots.

The rules of this part:

* Between blocks each rank has a run of the slots: what lies there (norms, residuals, whatever is not split) is computed
  once, by the rank that has the slot (sequence parallelism, arXiv 2205.05198). A block gathers all slots before its
  first matrices and adds up after its last ones what every rank has made of them, each rank keeping its own run.
* So the gradient of a parameter that is split is whole on its rank, and that of any other one is a share of it, which
  is summed over ranks: FSDP does so, as it does over ranks with other data.
* Parameters are DTensors, and what is computed is of plain tensors. DTensor would work out anew how to do each
  operation for each length of a row, which takes longer than the operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.distributed.tensor import Placement, Shard, distribute_tensor

from rlx.torch_private import all_gather_single_autograd, reduce_scatter_single_autograd

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

_SLOTS = -2
"""The dimension of slots in [B, L, H], and in [L, H]."""


def split_block(block: nn.Module, mesh: DeviceMesh, *, columns: Sequence[str], rows: Sequence[str]) -> None:
    """Split linear layers of a block over the ranks of `mesh`, in place.

    block: takes the hidden states of this rank's slots, [B, L / ranks, H], as its first argument or as
    `hidden_states`; inside it are all L of them. columns: its layers that make a part of the output's features on each
    rank, as queries, keys, values and gates are (a rank has whole heads). rows: those that take such parts and make
    hidden states of them: what they give is [B, L / ranks, H] again. Everything else in the block is whole on each
    rank, and computes for its part of the features. Sizes that are split must be multiples of the number of ranks.
    """
    block.register_forward_pre_hook(lambda _, args, kwargs: _gathered(args, kwargs, mesh), with_kwargs=True)
    for name in columns:
        _split_columns(block.get_submodule(name), mesh)
    for name in rows:
        _split_rows(block.get_submodule(name), mesh)


def keep_block(block: nn.Module, mesh: DeviceMesh) -> None:
    """Leave a block whole that needs the hidden states of other ranks' slots, as attention does.

    block: as in `split_block`; it gives hidden states, or a tuple that begins with them. Each rank computes all of it,
    and keeps what its own slots get.
    """
    block.register_forward_pre_hook(lambda _, args, kwargs: _gathered(args, kwargs, mesh), with_kwargs=True)
    block.register_forward_hook(lambda _module, _args, output: _kept(output, mesh))


def share_slots(first: nn.Module, last: nn.Module, mesh: DeviceMesh) -> None:
    """From the first argument of `first` to what `last` gives, each rank of `mesh` has its run of the slots.

    last: gives hidden states, or an object that has them as `last_hidden_state`. The number of slots is a multiple of
    that of ranks.
    """

    def give(_module: nn.Module, _args: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return _all_slots(output, mesh)
        output.last_hidden_state = _all_slots(output.last_hidden_state, mesh)
        return output

    first.register_forward_pre_hook(lambda _module, args: _kept(args, mesh))
    last.register_forward_hook(give)


def _gathered(
    args: tuple[Any, ...], kwargs: dict[str, Any], mesh: DeviceMesh
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if args:
        return (_all_slots(args[0], mesh), *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": _all_slots(kwargs["hidden_states"], mesh)}


def _kept(values: Any, mesh: DeviceMesh) -> Any:
    """The run of this rank of hidden states, which `values` are or begin with. It has no gradient for other slots."""
    if isinstance(values, tuple):
        return _kept(values[0], mesh), *values[1:]
    return values.chunk(mesh.size(), dim=_SLOTS)[mesh.get_local_rank()]


def _all_slots(own: Tensor, mesh: DeviceMesh) -> Tensor:
    """Every rank's run; the gradients that ranks have of it are added up."""
    gathered: Tensor = all_gather_single_autograd(own.contiguous(), own.ndim + _SLOTS, mesh.get_group())
    return gathered


def _own_slots(part: Tensor, mesh: DeviceMesh) -> Tensor:
    """The sum of all ranks' parts, in this rank's run."""
    summed: Tensor = reduce_scatter_single_autograd(part.contiguous(), "sum", part.ndim + _SLOTS, mesh.get_group())
    return summed


def _split_columns(layer: Any, mesh: DeviceMesh) -> None:
    _distribute(layer, mesh, weight=Shard(0), bias=Shard(0))

    def forward(x: Tensor) -> Tensor:
        return F.linear(x, layer.weight.to_local(), None if layer.bias is None else layer.bias.to_local())

    layer.forward = forward


def _split_rows(layer: Any, mesh: DeviceMesh) -> None:
    _distribute(layer, mesh, weight=Shard(1))

    def forward(x: Tensor) -> Tensor:
        own = _own_slots(F.linear(x, layer.weight.to_local()), mesh)
        return own if layer.bias is None else own + layer.bias

    layer.forward = forward


def _distribute(layer: nn.Module, mesh: DeviceMesh, **placements: Placement) -> None:
    for name, parameter in list(layer.named_parameters(recurse=False)):
        if name in placements:
            shards = distribute_tensor(parameter, mesh, [placements[name]], src_data_rank=None)
            layer.register_parameter(name, nn.Parameter(shards, requires_grad=parameter.requires_grad))
