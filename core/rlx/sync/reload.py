"""What vLLM's layerwise reload does not do: notice what was left out, and refresh what is shared.

The rules of this part:

* Whether a layer is complete is counted in elements, not names: a fused projection that got two of its three parts has
  been named twice and is still wrong.
* A layer that shares its weight with another gets nothing of its own from a checkpoint. vLLM's CPU kernels keep a
  packed copy of each weight in `cpu_linear`; a shared layer's copy must follow the layer that was loaded, or generation
  goes on with an old output head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from vllm.model_executor.layers.attention import is_deferred_attention_layer
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info

_PACKED = "cpu_linear"


@dataclass(frozen=True)
class Ties:
    """Layers whose every parameter belongs to a layer that comes earlier in the model: (name, layer, that layer)."""

    shared: Sequence[tuple[str, nn.Module, nn.Module]]

    def __contains__(self, layer: object) -> bool:
        return any(layer is tied for _, tied, _ in self.shared)


def find_ties(model: nn.Module) -> Ties:
    """To be called while the model is whole: the reload gives tied layers parameters of their own for a while."""
    owners: dict[int, nn.Module] = {}
    shared = []
    for name, layer in model.named_modules():
        parameters = [parameter for parameter in layer._parameters.values() if parameter is not None]  # noqa: SLF001
        if parameters and all(id(parameter) in owners for parameter in parameters):
            shared.append((name, layer, owners[id(parameters[0])]))
        for parameter in parameters:
            owners.setdefault(id(parameter), layer)
    return Ties(shared)


def incomplete(model: nn.Module, ties: Ties) -> list[str]:
    """Layers that an update left out, wholly or partly; to be called before the reload is finalised."""
    missing = []
    for name, layer in model.named_modules():
        info: Any = get_layerwise_info(layer)
        parameters = [p for p in layer._parameters.values() if p is not None and p.numel()]  # noqa: SLF001
        # A layer that got everything has been processed and can load no more.
        if not info.can_load() or not parameters or layer in ties or is_deferred_attention_layer(layer):
            continue
        # An embedding is padded beyond the vocabulary, and the padding is never loaded.
        wanted = 1 if isinstance(layer, VocabParallelEmbedding) else info.load_numel_total
        if info.load_numel < wanted:
            missing.append(f"{name} ({info.load_numel} of {info.load_numel_total} elements came)")
    return missing


def refresh_tied(ties: Ties) -> None:
    """Give tied layers the packed weight of the layer that was loaded."""
    for _, layer, owner in ties.shared:
        packed = vars(owner).get(_PACKED)
        if packed is not None and _PACKED in vars(layer):
            setattr(layer, _PACKED, packed)


def some(names: Sequence[str], count: int = 3) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
