"""The policy's weights as a checkpoint has them: whole tensors under Hugging Face names, a decoder layer at a time.

The rules of this part:

* Names, dtypes and shapes are known beforehand, from meta tensors through the same mapper.
* Gathering is a collective: every rank iterates to the end. At most one bucket is whole at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from rlx.policy.tensors import by_layer, full, named_tensors, wire_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from rlx.policy.build import Built

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

    @torch.no_grad()
    def tensors(self) -> Iterator[NamedTensors]:
        """Bucket by bucket; all ranks."""
        policy = named_tensors(self._built.network)
        for names in by_layer(list(policy), self._built.layers):
            yield [pair for name in names for pair in self._map(name, full(policy[name], self._target(policy[name])))]

    def _map(self, name: str, tensor: Tensor) -> NamedTensors:
        return list(self._built.mapper.policy_to_hf(name, tensor))

    def _meta(self, tensor: Tensor) -> Tensor:
        return torch.empty(tensor.shape, dtype=self._target(tensor), device="meta")

    def _target(self, tensor: Tensor) -> torch.dtype:
        return tensor.dtype if self._dtype is None else wire_dtype(tensor, self._dtype)
