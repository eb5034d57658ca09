"""How a transformers model is split over ranks: by the plans that its own architecture carries.

The rules of this part:

* tp: the linear layers that the plan names, by columns or by rows, in blocks that begin with the first and end with the
  second (`rlx.models.tensor_parallel`). Each rank has whole heads; where a plan does not split attention, each computes
  all of it.
* Whatever else a plan names is not split: the vocabulary, since logits are made a chunk of it at a time; experts, which
  are ep's; and norms of single heads, whose gradients are summed as all others are.
* ep: each rank has a run of the experts, and gets their tokens by transformers' own dispatch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from torch import nn

from rlx.models.tensor_parallel import keep_block, share_slots, split_block
from rlx.policy.parallel.tensors import decoder_layers

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

_CUT = {"colwise": "out_features", "rowwise": "in_features"}
_WHOLE = "replicated_with_grad_allreduce"
_EXPERTS = "moe_tp_experts"
_DISPATCH = "ep_dispatch_experts"


def tensor_refusal(module: Any, ways: int) -> str | None:
    """Why tp can't be so many ranks."""
    layers = list(_planned(module))
    if not any(style in _CUT for _, _, style in layers):
        return f"{type(module).__name__} has no tensor-parallel plan"
    if splits_heads(module) and (refusal := _heads_refusal(module, ways)):
        return refusal
    ends = {_block(name) for name, _, style in layers if style == "rowwise"}
    for name, part, style in layers:
        if refusal := _style_refusal(name, part, style, ways):
            return refusal
        if style == "colwise" and _block(name) not in ends:
            return f"its plan splits {name} by columns, and nothing beside it by rows"
    return None


def _style_refusal(name: str, part: Any, style: str, ways: int) -> str | None:
    if style == _WHOLE:
        return None
    if style not in _CUT:
        return f"its plan has the style {style!r} for {name}, which rlx does not know"
    if not isinstance(part, nn.Linear):
        return f"its plan splits {name}, which is no linear layer"
    width = getattr(part, _CUT[style])
    return f"tp = {ways} does not divide the {width} {_CUT[style]} of {name}" if width % ways else None


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
    """Split the linear layers over the ranks of `mesh`, and between them the slots, in place."""
    blocks: dict[str, dict[str, list[str]]] = {}
    for name, _, style in list(_planned(module)):
        if style in _CUT:
            cut = blocks.setdefault(_block(name), {style: [] for style in _CUT})
            cut[style].append(name.rpartition(".")[2])
    for name, cut in blocks.items():
        split_block(module.get_submodule(name), mesh, columns=cut["colwise"], rows=cut["rowwise"])
    layers, modules = decoder_layers(module)
    for block in _mixing(module, modules, layers, blocks):
        keep_block(block, mesh)
    share_slots(modules[0], module.get_decoder(), mesh)


def _mixing(module: Any, part: nn.Module, name: str, split: Collection[str]) -> Iterator[nn.Module]:
    """What is in a part and may look at other slots than its own, and is not split: attention, say.

    Modules without others inside (norms, activations) go slot by slot, and so do mixtures of experts with all that
    they have. Whatever else there is may not.
    """
    for own, child in part.named_children():
        full = f"{name}.{own}"
        inside = [f"{full}.{inner}" for inner, _ in child.named_children()]
        if full in split or not inside or any(_is_experts(module, inner) for inner in inside):
            continue
        if any(block.startswith(f"{full}.") for block in split):
            yield from _mixing(module, child, full, split)
        else:
            yield child


def _is_experts(module: Any, name: str) -> bool:
    general = _general(name)
    return bool(module.tp_plan.get(general) == _EXPERTS or module.ep_plan.get(general) == _DISPATCH)


def spread_experts(module: Any, mesh: DeviceMesh) -> None:
    """Give each rank of `mesh` its experts, in place."""
    from transformers.distributed.tensor_parallel import apply_expert_parallelism

    apply_expert_parallelism(module, mesh, None, dict(module.ep_plan))


def _planned(module: Any) -> Iterator[tuple[str, Any, str]]:
    """Name and style of the modules and parameters that the plan names, the vocabulary and experts left out."""
    whole = {module.get_input_embeddings(), module.get_output_embeddings()}
    whole |= {part for name, part in module.named_modules() if module.tp_plan.get(_general(name)) == _EXPERTS}
    whole |= {parameter for part in whole if part is not None for parameter in part.parameters()}
    for name, part in (*module.named_modules(), *module.named_parameters()):
        style = module.tp_plan.get(_general(name))
        if style is not None and part not in whole:
            yield name, part, style


def _general(name: str) -> str:
    """`layers.3.mlp` -> `layers.*.mlp`, as plans write it."""
    return re.sub(r"\.\d+(?=\.|$)", ".*", name)


def _block(name: str) -> str:
    """What a layer is a part of."""
    return name.rpartition(".")[0]
