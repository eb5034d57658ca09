"""The contract of model plugins: how to build the policy's network, and what its tensors are called in a checkpoint.

Shapes: B rows, S positions of a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from rlx.errors import PluginError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from rlx.models.base_model import BaseModel, HFConfig


class WeightMapper(ABC):
    """Policy tensors <-> Hugging Face checkpoint tensors, both ways, streaming.

    Names on the Hugging Face side are checkpoint names: those in a safetensors file of the model, which vLLM's loader
    reads. They may differ from `named_parameters()` (fused experts, renamed modules); tied tensors that a checkpoint
    leaves out are left out here too.
    """

    @abstractmethod
    def policy_to_hf(self, name: str, tensor: Tensor) -> Iterable[tuple[str, Tensor]]:
        """Return the checkpoint names and tensors of one full (unsharded) policy tensor.

        Must be deterministic, and may be called with meta tensors to learn names, shapes and dtypes.
        """

    @abstractmethod
    def hf_to_policy(self, tensors: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Yield full policy tensors from a stream of checkpoint tensors; tensors that the model doesn't know are
        passed on unchanged. May be called with meta tensors, to learn whether a checkpoint fits.
        """


@dataclass(frozen=True)
class ModelPlugin:
    """The object that an `rlx.models` entry point names."""

    build: Callable[..., nn.Module]
    """`build(hf_config, dtype=torch.float32, attn_implementation=None)`: the network on the current default device (rlx
    keeps its parameters on `meta`). Its forward takes `input_ids [B, S]`, `position_ids [B, S]` (int64) and returns an
    object with `.logits`. `attn_implementation` is `[policy] attention` of the config."""
    weight_mapper: Callable[[HFConfig], WeightMapper]
    """`weight_mapper(hf_config)`."""
    packer: Callable[..., object] | None = None
    """The default packer for this model, if it isn't `decoder_only_llm`."""
    model_types: frozenset[str] | None = None
    """The values of `model_type` in config.json that it can build; None if that is unknown."""

    @classmethod
    def of(
        cls,
        model: type[BaseModel],
        weight_mapper: Callable[[HFConfig], WeightMapper],
        packer: Callable[..., object] | None = None,
    ) -> Self:
        """Make a plugin from a `BaseModel`, its mapper, and its packer if it has one of its own.

        Raises PluginError if the model doesn't declare which `model_type`s it supports.
        """
        return cls(_BaseModelBuilder(model), weight_mapper, packer, frozenset(supported_model_types(model)))


def supported_model_types(model: type[BaseModel]) -> list[str]:
    """Return the `model_type`s that a model class declares. Raises PluginError if there are none."""
    declared = getattr(model, "supported_model_types", None)
    types = list(declared()) if callable(declared) else []
    if not types or not all(isinstance(name, str) for name in types):
        raise PluginError(
            f"{model.__module__}.{model.__qualname__} does not declare which models it supports: give it a static "
            "method supported_model_types() -> ['model_type of config.json', ...], as rlx.BaseModel has."
        )
    return types


@dataclass(frozen=True)
class _BaseModelBuilder:
    """`ModelPlugin.build` for a `BaseModel`. A dataclass, so that plugins of the same model class are equal."""

    model: type[BaseModel]

    def __call__(
        self, hf_config: HFConfig, *, dtype: torch.dtype | None = None, attn_implementation: str | None = None
    ) -> nn.Module:
        import torch

        if attn_implementation is not None:
            raise UsageError(
                f"[policy] attention = {attn_implementation!r} is for models of transformers; "
                f"{self.model.__name__} brings its own. Leave it out."
            )
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype or before)
        try:
            return self.model(hf_config)
        finally:
            torch.set_default_dtype(before)


def torch_dtype(name: str) -> torch.dtype:
    """Return the torch dtype with this name: `float32` -> torch.float32."""
    import torch

    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype
