"""Maps Hugging Face checkpoints of DeepSeek-V3 to the policy's tensors, and back.

Rules:

* A policy tensor is one checkpoint tensor, or a stack of them: gate and then up projection, expert after expert.
* Tensors stream. A stack is filled as its parts arrive, and yielded when it is complete.
* Layers for multi-token prediction (`num_nextn_predict_layers`, after the last decoder layer) aren't part of the model,
  here as in vLLM: they are skipped on loading and not written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import rlx
from rlx import UsageError
from rlx_plugin_deepseek import fp8
from rlx_plugin_deepseek.model import DeepseekV3MoEModel

WHOLE = {"embedding": "model.embed_tokens", "final_norm": "model.norm", "head": "lm_head"}
"""Modules outside the layers."""
LAYER = {
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.query_down": "self_attn.q_a_proj",
    "attention.query_norm": "self_attn.q_a_layernorm",
    "attention.query_up": "self_attn.q_b_proj",
    "attention.latent": "self_attn.kv_a_proj_with_mqa",
    "attention.latent_norm": "self_attn.kv_a_layernorm",
    "attention.expand": "self_attn.kv_b_proj",
    "attention.output": "self_attn.o_proj",
    "feed_forward_norm": "post_attention_layernorm",
    "feed_forward.down": "mlp.down_proj",
    "feed_forward.router": "mlp.gate",
    "feed_forward.shared.down": "mlp.shared_experts.down_proj",
}
"""Modules of a layer with one tensor each in a checkpoint."""
GATED = {"feed_forward": "mlp", "feed_forward.shared": "mlp.shared_experts"}
"""Modules whose `gate_up` is two tensors in a checkpoint."""
TENSOR = {"correction": "e_score_correction_bias"}
"""Tensors of a module with another name in a checkpoint."""


@dataclass(frozen=True)
class Part:
    """A checkpoint tensor and its place in a policy tensor."""

    name: str
    where: tuple[int | slice, ...] = ()


class DeepseekV3MoEWeightMapper(rlx.WeightMapper):
    def __init__(self, hf_config: Any) -> None:
        self._block = fp8.block_size(hf_config)
        first = hf_config.num_hidden_layers
        extra = range(first, first + (getattr(hf_config, "num_nextn_predict_layers", None) or 0))
        self._left_out = tuple(f"model.layers.{layer}." for layer in extra)
        with torch.device("meta"):
            model = DeepseekV3MoEModel(hf_config)
        # Both names of tied tensors: a checkpoint may hold them twice.
        tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
        kept = set(model.state_dict())
        self._shapes = {name: tensor.shape for name, tensor in tensors if name in kept}
        self._parts = {name: list(_parts(name, shape)) for name, shape in self._shapes.items()}
        self._place = {part.name: (name, part) for name, parts in self._parts.items() for part in parts}

    def policy_to_hf(self, name: str, tensor: Tensor) -> Iterable[tuple[str, Tensor]]:
        return [(part.name, tensor[part.where]) for part in self._parts[name]]

    def hf_to_policy(self, tensors: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        stacks: dict[str, Tensor] = {}
        missing: dict[str, set[str]] = {}
        for theirs, tensor in fp8.plain(tensors, self._block):
            if theirs.startswith(self._left_out):
                continue
            name, part = self._place.get(theirs, (theirs, Part(theirs)))
            if not part.where:
                yield name, tensor
                continue
            stacks[name] = self._filled(stacks.get(name), name, part, tensor)
            left = missing.setdefault(name, {own.name for own in self._parts[name]})
            left.discard(theirs)
            if not left:
                yield name, stacks.pop(name)
                del missing[name]
        for lacking in missing.values():
            raise UsageError(f"The checkpoint lacks {len(lacking)} tensor(s), {min(lacking)} among them.")

    def _filled(self, stack: Tensor | None, name: str, part: Part, tensor: Tensor) -> Tensor:
        """Return the stack with the part in its place; allocates it for the first part."""
        if stack is None:
            stack = torch.empty(self._shapes[name], dtype=tensor.dtype, device=tensor.device)
        if stack[part.where].shape != tensor.shape:
            raise UsageError(
                f"{part.name} has the shape {list(tensor.shape)}; according to config.json it must be "
                f"{list(stack[part.where].shape)}."
            )
        stack = stack.to(torch.promote_types(stack.dtype, tensor.dtype))
        stack[part.where] = tensor
        return stack


def _parts(name: str, shape: torch.Size) -> Iterator[Part]:
    """Yield the checkpoint tensors that make up the policy tensor `name`."""
    inside = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    if inside is None:
        module, _, tensor = name.rpartition(".")
        yield Part(f"{WHOLE[module]}.{tensor}")
        return
    layer, rest = f"model.layers.{inside[1]}", inside[2]
    module, _, tensor = rest.rpartition(".")
    if module == "feed_forward.experts":
        yield from _expert_parts(f"{layer}.mlp.experts", tensor, shape)
    elif module.endswith(".gate_up"):
        place = f"{layer}.{GATED[module.removesuffix('.gate_up')]}"
        yield from _halves(place, shape[0], ())
    else:
        yield Part(f"{layer}.{LAYER[module]}.{TENSOR.get(tensor, tensor)}")


def _expert_parts(place: str, tensor: str, shape: torch.Size) -> Iterator[Part]:
    for expert in range(shape[0]):
        if tensor == "gate_up":
            yield from _halves(f"{place}.{expert}", shape[1], (expert,))
        else:
            yield Part(f"{place}.{expert}.down_proj.weight", (expert,))


def _halves(place: str, rows: int, where: tuple[int, ...]) -> Iterator[Part]:
    yield Part(f"{place}.gate_proj.weight", (*where, slice(0, rows // 2)))
    yield Part(f"{place}.up_proj.weight", (*where, slice(rows // 2, rows)))
