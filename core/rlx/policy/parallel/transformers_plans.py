"""Tensor and expert parallelism of transformers models, by the plans that their architectures carry.

Rules:

* tp: the linear layers that the plan names are split by columns or by rows, in blocks that begin with the former and
  end with the latter (`rlx.models.tensor_parallel`). Each rank has whole heads; if a plan doesn't split attention, each
  rank computes all of it.
* Other layers that a plan names stay whole: the vocabulary, since logits are computed a chunk of it at a time; experts,
  which ep splits; and norms of single heads, whose gradients are summed like all others.
* ep: each rank has a run of the experts, and gets their tokens by transformers' own dispatch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from torch import nn

from rlx.models.tensor_parallel import keep_block, share_positions, split_block
from rlx.policy.parallel.tensors import decoder_layers

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from transformers import PreTrainedModel

# The styles of transformers' plans that rlx knows; for the first two, the size that is split.
_SPLIT = {"colwise": "out_features", "rowwise": "in_features"}
_WHOLE = "replicated_with_grad_allreduce"
_EXPERTS = "moe_tp_experts"
_DISPATCH = "ep_dispatch_experts"


def tensor_parallel_refusal(model: PreTrainedModel, ways: int) -> str | None:
    """Return why tp = `ways` isn't possible, or None."""
    planned = list(_planned(model))
    if not any(style in _SPLIT for _, _, style in planned):
        return f"{type(model).__name__} has no tensor-parallel plan"
    if splits_attention(model) and (refusal := _tp_heads_refusal(model, ways)):
        return refusal
    row_split = {_block(name) for name, _, style in planned if style == "rowwise"}
    for name, part, style in planned:
        if refusal := _part_refusal(name, part, style, ways):
            return refusal
        if style == "colwise" and _block(name) not in row_split:
            return f"its plan splits {name} by columns, but no other layer of its block by rows"
    return None


def _part_refusal(name: str, part: nn.Module | nn.Parameter, style: str, ways: int) -> str | None:
    if style == _WHOLE:
        return None
    if style not in _SPLIT:
        return f"its plan has the style {style!r} for {name}, which rlx does not know"
    if not isinstance(part, nn.Linear):
        return f"its plan splits {name}, which isn't a linear layer"
    size = getattr(part, _SPLIT[style])
    return f"tp = {ways} does not divide the {size} {_SPLIT[style]} of {name}" if size % ways else None


def _tp_heads_refusal(model: PreTrainedModel, ways: int) -> str | None:
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    counts = {"attention heads": heads, "key-value heads": getattr(config, "num_key_value_heads", None) or heads}
    for what, count in counts.items():
        if count % ways:
            return f"tp = {ways} does not divide its {count} {what}"
    return None


def expert_parallel_refusal(model: PreTrainedModel, ways: int) -> str | None:
    """Return why ep = `ways` isn't possible, or None."""
    experts = [module for name, module in model.named_modules() if model.ep_plan.get(_plan_name(name)) == _DISPATCH]
    if not experts:
        return f"{type(model).__name__} has no expert-parallel plan"
    count = experts[0].num_experts
    return f"ep = {ways} does not divide its {count} experts" if count % ways else None


def splits_attention(model: PreTrainedModel) -> bool:
    """Return whether the plan splits attention, that is, the projection of the queries."""
    return any(name.endswith(".q_proj") for name, _, _ in _planned(model))


def apply_tensor_parallel(model: PreTrainedModel, mesh: DeviceMesh) -> None:
    """Split the planned linear layers over the ranks of `mesh`, and the positions between blocks, in place."""
    blocks: dict[str, dict[str, list[str]]] = {}
    for name, _, style in list(_planned(model)):
        if style in _SPLIT:
            split = blocks.setdefault(_block(name), {style: [] for style in _SPLIT})
            split[style].append(name.rpartition(".")[2])
    for name, split in blocks.items():
        split_block(model.get_submodule(name), mesh, columns=split["colwise"], rows=split["rowwise"])
    layers, modules = decoder_layers(model)
    for block in _whole_blocks(model, modules, layers, blocks):
        keep_block(block, mesh)
    share_positions(modules[0], model.get_decoder(), mesh)


def apply_expert_parallel(model: PreTrainedModel, mesh: DeviceMesh) -> None:
    """Give each rank of `mesh` its experts, in place."""
    from transformers.distributed.tensor_parallel import apply_expert_parallelism

    apply_expert_parallelism(model, mesh, None, dict(model.ep_plan))


def _whole_blocks(model: PreTrainedModel, part: nn.Module, name: str, split: Collection[str]) -> Iterator[nn.Module]:
    """Yield the modules in `part` that aren't split and may read other positions than their own: attention, say.

    Modules without modules inside (norms, activations) work position by position, and so does a mixture of experts as
    a whole. Any other module might not.
    """
    for child_name, child in part.named_children():
        full = f"{name}.{child_name}"
        inside = [f"{full}.{inner}" for inner, _ in child.named_children()]
        if full in split or not inside or any(_is_experts(model, inner) for inner in inside):
            continue
        if any(block.startswith(f"{full}.") for block in split):
            yield from _whole_blocks(model, child, full, split)
        else:
            yield child


def _is_experts(model: PreTrainedModel, name: str) -> bool:
    planned = _plan_name(name)
    return bool(model.tp_plan.get(planned) == _EXPERTS or model.ep_plan.get(planned) == _DISPATCH)


def _planned(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module | nn.Parameter, str]]:
    """Yield the modules and parameters that the plan names, with name and style; not the vocabulary, nor experts."""
    whole = {model.get_input_embeddings(), model.get_output_embeddings()}
    whole |= {part for name, part in model.named_modules() if model.tp_plan.get(_plan_name(name)) == _EXPERTS}
    whole |= {parameter for part in whole if part is not None for parameter in part.parameters()}
    for name, part in (*model.named_modules(), *model.named_parameters()):
        style = model.tp_plan.get(_plan_name(name))
        if style is not None and part not in whole:
            yield name, part, style


def _plan_name(name: str) -> str:
    """Return a name as plans write it: `layers.3.mlp` -> `layers.*.mlp`."""
    return re.sub(r"\.\d+(?=\.|$)", ".*", name)


def _block(name: str) -> str:
    """Return the name of the module that contains a layer."""
    return name.rpartition(".")[0]
