"""What a model plugin is: how to build the policy's network, and what its tensors are called in a checkpoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class WeightMapper(ABC):
    """Policy tensors <-> Hugging Face checkpoint tensors, both ways, streaming.

    Names on the Hugging Face side are checkpoint names: what a safetensors file of the model holds, and what vLLM's
    loader reads. They may differ from `named_parameters()` (fused experts, renamed modules); tied tensors that a
    checkpoint leaves out are left out here too.
    """

    @abstractmethod
    def policy_to_hf(self, name: str, tensor: Tensor) -> Iterable[tuple[str, Tensor]]:
        """Checkpoint names and tensors that one full (unsharded) policy tensor becomes.

        Must be deterministic, and may be called with meta tensors to learn names, shapes and dtypes.
        """

    @abstractmethod
    def hf_to_policy(self, tensors: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Full policy tensors from a stream of checkpoint tensors."""


@dataclass(frozen=True)
class ModelPlugin:
    """What an `rlx.models` entry point names."""

    build: Callable[..., nn.Module]
    """`build(hf_config, dtype=torch.float32, attn_implementation=str)`: the network on the current default device (rlx
    calls it on `meta`). Its forward takes `input_ids [B, T]`, `position_ids [B, T]` and returns an object with
    `.logits`."""
    weight_mapper: Callable[[Any], WeightMapper]
    """`weight_mapper(hf_config)`."""
    packer: Callable[..., Any] | None = None
    """The default packer for this model, where it is not `decoder_only_llm`."""


def torch_dtype(name: str) -> torch.dtype:
    """`float32` -> torch.float32."""
    import torch

    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype
