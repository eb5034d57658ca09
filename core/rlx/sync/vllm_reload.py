"""Additions to vLLM's layerwise reload: detect layers that were left out, and refresh weights that layers share.

Rules:

* Whether a layer is complete is decided by counting elements, not names: a fused projection that got two of its three
  parts has been loaded by name twice, and is still wrong.
* A layer that shares its weight with another gets no tensors of its own from a checkpoint. vLLM's CPU kernels keep a
  packed copy of each weight in `cpu_linear`; a tied layer must get the packed copy of the layer that was loaded, or
  generation continues with an old output head.
* Experts that pack their weights do so only when their kernel is made. A reload would keep the kernel and give it
  unpacked weights, so the kernel is made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn
from vllm.model_executor.layers.attention import is_deferred_attention_layer
from vllm.model_executor.layers.fused_moe.modular_kernel import FusedMoEExperts
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info

if TYPE_CHECKING:
    from vllm.model_executor.model_loader.reload.types import LayerReloadingInfo

PACKED = "cpu_linear"
"""Attribute of a layer with the packed copy of its weight, on the CPU."""
_COPIED = "rlx_copied"


@dataclass(frozen=True)
class Ties:
    """Layers all of whose parameters belong to an earlier layer of the model: (name, layer, that earlier layer)."""

    tied: Sequence[tuple[str, nn.Module, nn.Module]]

    def __contains__(self, layer: object) -> bool:
        return any(layer is tied for _, tied, _ in self.tied)

    def broken(self) -> list[str]:
        """Return the names of tied layers that don't use the weight, or the packed weight, of their owner."""
        return [
            name
            for name, layer, owner in self.tied
            if not set(map(id, _own_parameters(layer))) <= set(map(id, _own_parameters(owner)))
            or vars(layer).get(PACKED) is not vars(owner).get(PACKED)
        ]


def find_ties(model: nn.Module) -> Ties:
    """Find the tied layers. Call it before a reload starts, which gives tied layers parameters of their own."""
    owners: dict[int, nn.Module] = {}
    tied = []
    for name, layer in model.named_modules():
        parameters = _own_parameters(layer)
        if parameters and all(id(parameter) in owners for parameter in parameters):
            tied.append((name, layer, owners[id(parameters[0])]))
        for parameter in parameters:
            owners.setdefault(id(parameter), layer)
    return Ties(tied)


class HeldTensors:
    """Tensors of one update that vLLM holds until their layer is complete."""

    def __init__(self, model: nn.Module) -> None:
        self._infos: list[LayerReloadingInfo] = [
            get_layerwise_info(layer) for layer in model.modules() if _own_parameters(layer)
        ]

    def copy(self) -> None:
        """Replace views of the bucket's buffer, which is about to be reused, by copies."""
        for info in self._infos:
            for _, bound in info.loaded_weights:
                for name, value in bound.arguments.items():
                    if isinstance(value, Tensor) and not value.is_meta and not hasattr(value, _COPIED):
                        bound.arguments[name] = value.clone()
                        setattr(bound.arguments[name], _COPIED, True)


def reset_expert_kernels(model: nn.Module) -> None:
    """Drop the kernels of experts that pack their weights, so that the update packs them as the first load did."""
    for layer in model.modules():
        method = getattr(layer, "quant_method", None)
        kernel = getattr(method, "moe_kernel", None)
        if method is None or kernel is None:
            continue
        packs = type(kernel.fused_experts).process_weights_after_loading
        if packs is not FusedMoEExperts.process_weights_after_loading:
            method.moe_kernel = None


def incomplete_layers(model: nn.Module, ties: Ties) -> list[str]:
    """Return the layers that got no or too few elements. Call it before the reload is finalised."""
    incomplete = []
    for name, layer in model.named_modules():
        info: LayerReloadingInfo = get_layerwise_info(layer)
        # A layer that got all of its elements has been processed and can't load any more.
        loaded = not info.can_load() or not any(parameter.numel() for parameter in _own_parameters(layer))
        if loaded or layer in ties or is_deferred_attention_layer(layer):
            continue
        # An embedding is padded beyond the vocabulary, and the padding is never loaded.
        required = 1 if isinstance(layer, VocabParallelEmbedding) else info.load_numel_total
        if info.load_numel < required:
            incomplete.append(f"{name} ({info.load_numel} of {info.load_numel_total} elements arrived)")
    return incomplete


def forget_loaded(model: nn.Module) -> None:
    """Drop what incomplete layers got from a failed update: finalising the reload gives them their old tensors."""
    for layer in model.modules():
        info: LayerReloadingInfo = get_layerwise_info(layer)
        if info.can_load():
            info.loaded_weights.clear()
            info.load_numel = 0


def refresh_tied_layers(ties: Ties) -> None:
    """Give tied layers the packed weight of the layer that was loaded."""
    for _, layer, owner in ties.tied:
        packed = vars(owner).get(PACKED)
        if packed is not None and PACKED in vars(layer):
            setattr(layer, PACKED, packed)


def _own_parameters(layer: nn.Module) -> list[nn.Parameter]:
    return list(layer.parameters(recurse=False))
