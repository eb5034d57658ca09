"""How a transformers model is split over ranks: by the plans that its own architecture carries.

The rules of this part:

* tp: the linear layers that the plan names, by columns or by rows. Each rank has whole heads. A norm of single heads
  sees the heads of its rank only; its gradient is summed over ranks.
* Parameters are DTensors, and so is what crosses ranks; what is computed is of plain tensors. DTensor would work out
  anew how to do each operation for each length of a row, which takes longer than the operation.
* Embeddings, the head and experts stay whole on every rank of tp: logits are made a chunk of the vocabulary at a time.
* ep: each rank has a run of the experts, and gets their tokens by transformers' own dispatch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard, distribute_tensor
from torch.func import functional_call

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.device_mesh import DeviceMesh

_CUT = {"colwise": "out_features", "rowwise": "in_features"}
_EXPERTS = "moe_tp_experts"
_DISPATCH = "ep_dispatch_experts"


def tensor_refusal(module: Any, ways: int) -> str | None:
    """Why tp can't be so many ranks."""
    layers = list(_planned(module))
    if not any(style in _STYLES for _, _, style in layers):
        return f"{type(module).__name__} has no tensor-parallel plan"
    if splits_heads(module) and (refusal := _heads_refusal(module, ways)):
        return refusal
    for name, layer, style in layers:
        if style not in _STYLES:
            return f"its plan has the style {style!r} for {name}, which rlx does not know"
        width = getattr(layer, _CUT[style]) if style in _CUT else ways
        if width % ways:
            return f"tp = {ways} does not divide the {width} {_CUT[style]} of {name}"
    return None


def _heads_refusal(module: Any, ways: int) -> str | None:
    config = module.config.get_text_config()
    heads = config.num_attention_heads
    counts = {"attention heads": heads, "key-value heads": getattr(config, "num_key_value_heads", None) or heads}
    for what, count in counts.items():
        if count % ways:
            return f"tp = {ways} does not divide its {count} {what}"
    return None


def experts_refusal(module: Any, ways: int) -> str | None:
    """Why ep can't be so many ranks."""
    experts = [layer for name, layer in module.named_modules() if module.ep_plan.get(_general(name)) == _DISPATCH]
    if not experts:
        return f"{type(module).__name__} has no expert-parallel plan"
    count = experts[0].num_experts
    return f"ep = {ways} does not divide its {count} experts" if count % ways else None


def splits_heads(module: Any) -> bool:
    """Whether tp splits what makes the queries."""
    return any(name.endswith(".q_proj") for name, _, _ in _planned(module))


def split_matrices(module: Any, mesh: DeviceMesh) -> None:
    """Split the linear layers over the ranks of `mesh`, in place."""
    for _, layer, style in list(_planned(module)):
        _STYLES[style](layer, mesh)


def spread_experts(module: Any, mesh: DeviceMesh) -> None:
    """Give each rank of `mesh` its experts, in place."""
    from transformers.distributed.tensor_parallel import apply_expert_parallelism

    apply_expert_parallelism(module, mesh, None, dict(module.ep_plan))


def _planned(module: Any) -> Iterator[tuple[str, Any, str]]:
    """Name, layer and style of what the plan splits, the vocabulary and experts left out."""
    whole = {module.get_input_embeddings(), module.get_output_embeddings()}
    for name, layer in module.named_modules():
        style = module.tp_plan.get(_general(name))
        if style is not None and style != _EXPERTS and layer not in whole:
            yield name, layer, style


def _general(name: str) -> str:
    """`layers.3.mlp` -> `layers.*.mlp`, as plans write it."""
    return re.sub(r"\.\d+(?=\.|$)", ".*", name)


def _split_columns(layer: Any, mesh: DeviceMesh) -> None:
    """Each rank makes a part of the output's features, and knows of the input's gradient what these say."""
    _distribute(layer, mesh, weight=Shard(0), bias=Shard(0))

    def forward(x: Tensor) -> Tensor:
        whole = DTensor.from_local(x, mesh, [Replicate()], run_check=False).to_local(grad_placements=[Partial()])
        return F.linear(whole, layer.weight.to_local(), None if layer.bias is None else layer.bias.to_local())

    layer.forward = forward


def _split_rows(layer: Any, mesh: DeviceMesh) -> None:
    """Each rank takes a part of the input's features; what they make of it is summed."""
    _distribute(layer, mesh, weight=Shard(1))

    def forward(x: Tensor) -> Tensor:
        part = DTensor.from_local(F.linear(x, layer.weight.to_local()), mesh, [Partial()], run_check=False)
        whole: Tensor = part.redistribute(placements=[Replicate()]).to_local()
        return whole if layer.bias is None else whole + layer.bias

    layer.forward = forward


def _sum_gradients(layer: nn.Module, mesh: DeviceMesh) -> None:
    """The layer sees what is of this rank only, with parameters that every rank has."""
    _distribute(layer, mesh, **{name: Replicate() for name, _ in layer.named_parameters()})
    own = copy(layer)

    def forward(x: Tensor) -> Tensor:
        parameters: Any = layer.named_parameters()
        local = {name: parameter.to_local(grad_placements=[Partial()]) for name, parameter in parameters}
        made: Tensor = functional_call(own, local, (x,))
        return made

    layer.forward = forward


def _distribute(layer: nn.Module, mesh: DeviceMesh, **placements: Placement) -> None:
    for name, parameter in list(layer.named_parameters(recurse=False)):
        if name in placements:
            shards = distribute_tensor(parameter, mesh, [placements[name]], src_data_rank=None)
            layer.register_parameter(name, nn.Parameter(shards, requires_grad=parameter.requires_grad))


_STYLES: Mapping[str, Callable[[Any, DeviceMesh], None]] = MappingProxyType(
    {"colwise": _split_columns, "rowwise": _split_rows, "replicated_with_grad_allreduce": _sum_gradients}
)
