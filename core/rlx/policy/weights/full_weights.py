"""The policy's weights as a checkpoint has them: whole tensors under Hugging Face names, a decoder layer at a time.

The rules of this part:

* Names, dtypes and shapes are known beforehand, from meta tensors through the same mapper.
* Gathering is a collective: every rank iterates to the end, of buckets and of each bucket. A tensor is whole when it is
  asked for, and may be forgotten when the next one is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from rlx.policy.parallel.tensors import by_layer, gather_full, named_tensors, wire_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from rlx.policy.model.built import Built

NamedTensors = list[tuple[str, "Tensor"]]


class Gatherer:
    """Parameters come out in `dtype`; None leaves them as the master weights are."""

    def __init__(self, built: Built, dtype: torch.dtype | None) -> None:
        self._built = built
        self._dtype = dtype

    def shapes(self) -> list[NamedTensors]:
        """What `tensors` will yield, as meta tensors. No communication."""
        policy = named_tensors(self._built.network)
        return [
            [pair for name in names for pair in self._map(name, self._meta(policy[name]))]
            for names in by_layer(list(policy), self._built.layers)
        ]

    def tensors(self) -> Iterator[Iterator[tuple[str, Tensor]]]:
        """Bucket by bucket; all ranks."""
        policy = named_tensors(self._built.network)
        for names in by_layer(list(policy), self._built.layers):
            yield self._whole({name: policy[name] for name in names})

    @torch.no_grad()
    def _whole(self, tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in tensors.items():
            yield from self._map(name, self._told(name, tensor))

    def _told(self, name: str, tensor: Tensor) -> Tensor:
        """The whole tensor, on every rank, whichever stage it lies on."""
        dtype, built = self._target(tensor), self._built
        owner = built.owner_stage(name)
        if owner == built.stage.index:
            whole = gather_full(tensor, dtype).contiguous()
        else:
            whole = torch.empty(tensor.shape, dtype=dtype, device=built.device)
        return built.stage.broadcast_from(owner, whole)

    def _map(self, name: str, tensor: Tensor) -> NamedTensors:
        return list(self._built.mapper.policy_to_hf(name, tensor))

    def _meta(self, tensor: Tensor) -> Tensor:
        return torch.empty(tensor.shape, dtype=self._target(tensor), device="meta")

    def _target(self, tensor: Tensor) -> torch.dtype:
        return tensor.dtype if self._dtype is None else wire_dtype(tensor, self._dtype)
