"""What vLLM's layerwise reload does not do: notice what was left out, and refresh what is shared.

The rules of this part:

* Whether a layer is complete is counted in elements, not names: a fused projection that got two of its three parts has
  been named twice and is still wrong.
* A layer that shares its weight with another gets nothing of its own from a checkpoint. vLLM's CPU kernels keep a
  packed copy of each weight in `cpu_linear`; a shared layer's copy must follow the layer that was loaded, or generation
  goes on with an old output head.
* Experts that pack their weights do so only when their kernel is made; on a reload vLLM keeps the kernel and hands it
  weights as they came. So the kernel is made anew.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from vllm.model_executor.layers.attention import is_deferred_attention_layer
from vllm.model_executor.layers.fused_moe.modular_kernel import FusedMoEExperts
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info

_PACKED = "cpu_linear"
_OWN = "rlx_own"


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
        parameters = _parameters(layer)
        if parameters and all(id(parameter) in owners for parameter in parameters):
            shared.append((name, layer, owners[id(parameters[0])]))
        for parameter in parameters:
            owners.setdefault(id(parameter), layer)
    return Ties(shared)


class Reloading:
    """The layers of one update that have parameters to load."""

    def __init__(self, model: nn.Module) -> None:
        self._infos: list[Any] = [get_layerwise_info(layer) for layer in model.modules() if _parameters(layer)]

    def keep_waiting_tensors(self) -> None:
        """Copy what layers still hold for later: a bucket's buffer is about to be used again."""
        for info in self._infos:
            for _, arguments in info.loaded_weights:
                _own(arguments.arguments)


def forget_expert_kernels(model: nn.Module) -> None:
    """Make packing experts process the weights of the update that begins as they did those of the first load."""
    for layer in model.modules():
        method: Any = getattr(layer, "quant_method", None)
        kernel = getattr(method, "moe_kernel", None)
        if kernel is not None and _packs(kernel.fused_experts):
            method.moe_kernel = None


def incomplete(model: nn.Module, ties: Ties) -> list[str]:
    """Layers that an update left out, wholly or partly; to be called before the reload is finalised."""
    missing = []
    for name, layer in model.named_modules():
        info: Any = get_layerwise_info(layer)
        parameters = [parameter for parameter in _parameters(layer) if parameter.numel()]
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


def _parameters(layer: nn.Module) -> list[nn.Parameter]:
    """The layer's own, not its children's."""
    return list(layer.parameters(recurse=False))


def _packs(experts: Any) -> bool:
    return type(experts).process_weights_after_loading is not FusedMoEExperts.process_weights_after_loading


def _own(arguments: MutableMapping[str, Any]) -> None:
    for name, value in arguments.items():
        if isinstance(value, Tensor) and not value.is_meta and not hasattr(value, _OWN):
            arguments[name] = value.clone()
            setattr(arguments[name], _OWN, True)
