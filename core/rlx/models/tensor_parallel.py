"""Tensor parallelism: ranks share the matrices of a block, and between blocks the positions of the rows.

Rules:

* Between blocks each rank has a run of the positions: modules that are not split there (norms, residuals) compute each
  position once, on the rank that has it (sequence parallelism, arXiv 2205.05198). A block gathers all positions before
  its first matrices and sums all ranks' partial outputs after its last ones, each rank keeping its own run.
* The gradient of a parameter that is split is therefore complete on its rank, and that of any other one is a share,
  which is summed over ranks: FSDP does so, as it does over ranks with other data.
* Parameters are DTensors, and the computation runs on plain tensors: DTensor would plan each operation anew for each
  length of a row, which takes longer than the operation.

Shapes: B rows, S positions of a row, H the hidden size; "ranks" is the size of the mesh.
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

_POSITIONS = -2
"""The dimension of positions in [B, S, H], and in [S, H]."""

# Forward hooks get the arguments and outputs of any module: torch types them as Any.
Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def split_block(block: nn.Module, mesh: DeviceMesh, *, columns: Sequence[str], rows: Sequence[str]) -> None:
    """Split linear layers of a block over the ranks of `mesh`, in place.

    block: takes the hidden states of this rank's positions, [B, S / ranks, H], as its first argument or as
    `hidden_states`; its layers then compute on all S positions. columns: layers that are split by output features, such
    as the projections to queries, keys, values and gates (a rank has whole heads). rows: layers that are split by input
    features, and turn those parts into hidden states; their output is [B, S / ranks, H] again. Everything else in the
    block is whole on each rank, and computes on this rank's features. Sizes that are split must be multiples of the
    number of ranks.
    """
    block.register_forward_pre_hook(lambda _, args, kwargs: _gather_input(args, kwargs, mesh), with_kwargs=True)
    for name in columns:
        _split_columns(block.get_submodule(name), mesh)
    for name in rows:
        _split_rows(block.get_submodule(name), mesh)


def keep_block(block: nn.Module, mesh: DeviceMesh) -> None:
    """Keep a block whole on every rank, one that needs the hidden states of all positions, as attention does.

    block: as in `split_block`; it returns hidden states [B, S, H], or a tuple that begins with them. Each rank computes
    all of it, and keeps the results for its own positions.
    """
    block.register_forward_pre_hook(lambda _, args, kwargs: _gather_input(args, kwargs, mesh), with_kwargs=True)
    block.register_forward_hook(lambda _module, _args, output: _own_positions(output, mesh))


def share_positions(first: nn.Module, last: nn.Module, mesh: DeviceMesh) -> None:
    """Give each rank of `mesh` its run of the positions from the first argument of `first` to the output of `last`.

    last: returns hidden states, or an object that has them as `last_hidden_state`. The number of positions is a
    multiple of the number of ranks.
    """

    def gather(_module: nn.Module, _args: Args, output: Any) -> object:
        if isinstance(output, Tensor):
            return _gather_positions(output, mesh)
        output.last_hidden_state = _gather_positions(output.last_hidden_state, mesh)
        return output

    first.register_forward_pre_hook(lambda _module, args: _own_positions(args, mesh))
    last.register_forward_hook(gather)


def _gather_input(args: Args, kwargs: Kwargs, mesh: DeviceMesh) -> tuple[Args, Kwargs]:
    """Replace the hidden states in a block's arguments with those of all positions."""
    if args:
        return (_gather_positions(args[0], mesh), *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": _gather_positions(kwargs["hidden_states"], mesh)}


def _own_positions(values: Any, mesh: DeviceMesh) -> Any:
    """Keep this rank's positions of hidden states, or of a tuple's first item. The other positions get no gradient."""
    if isinstance(values, tuple):
        return _own_positions(values[0], mesh), *values[1:]
    return values.chunk(mesh.size(), dim=_POSITIONS)[mesh.get_local_rank()]


def _gather_positions(own: Tensor, mesh: DeviceMesh) -> Tensor:
    """Return the positions of all ranks (all-gather); backward sums the ranks' gradients (reduce-scatter)."""
    gathered: Tensor = all_gather_single_autograd(own.contiguous(), own.ndim + _POSITIONS, mesh.get_group())
    return gathered


def _reduce_scatter_positions(part: Tensor, mesh: DeviceMesh) -> Tensor:
    """Return the sum of all ranks' parts, for this rank's positions."""
    summed: Tensor = reduce_scatter_single_autograd(part.contiguous(), "sum", part.ndim + _POSITIONS, mesh.get_group())
    return summed


def _split_columns(layer: Any, mesh: DeviceMesh) -> None:
    _distribute(layer, mesh, weight=Shard(0), bias=Shard(0))

    def forward(x: Tensor) -> Tensor:
        return F.linear(x, layer.weight.to_local(), None if layer.bias is None else layer.bias.to_local())

    layer.forward = forward


def _split_rows(layer: Any, mesh: DeviceMesh) -> None:
    _distribute(layer, mesh, weight=Shard(1))

    def forward(x: Tensor) -> Tensor:
        own = _reduce_scatter_positions(F.linear(x, layer.weight.to_local()), mesh)
        return own if layer.bias is None else own + layer.bias

    layer.forward = forward


def _distribute(layer: nn.Module, mesh: DeviceMesh, **placements: Placement) -> None:
    for name, parameter in list(layer.named_parameters(recurse=False)):
        if name in placements:
            shards = distribute_tensor(parameter, mesh, [placements[name]], src_data_rank=None)
            layer.register_parameter(name, nn.Parameter(shards, requires_grad=parameter.requires_grad))
