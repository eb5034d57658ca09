"""The policy's weights as a Hugging Face checkpoint has them: full tensors under its names, layer by layer.

Rules:

* Names, dtypes and shapes are known in advance, from meta tensors through the same mapper.
* Gathering is a collective: every rank iterates over all buckets, and to the end of each. A tensor is gathered when it
  is requested, and may be freed when the next one is requested.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from rlx.policy.parallel.tensors import by_layer, gather_full, named_tensors, wire_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from rlx.policy.model.built import Built


class FullWeights:
    """Gathers the full weights. Parameters are converted to `dtype`; None keeps the dtype of the master weights."""

    def __init__(self, built: Built, dtype: torch.dtype | None) -> None:
        self._built = built
        self._dtype = dtype

    def meta_buckets(self) -> list[list[tuple[str, Tensor]]]:
        """Return the tensors that `buckets` will yield, as meta tensors. No communication."""
        return [
            [
                pair
                for name, tensor in tensors.items()
                for pair in self._built.mapper.policy_to_hf(
                    name, torch.empty(tensor.shape, dtype=self._target_dtype(tensor), device="meta")
                )
            ]
            for tensors in self._policy_buckets()
        ]

    def buckets(self) -> Iterator[Iterator[tuple[str, Tensor]]]:
        """Yield a bucket of the tensors outside the decoder layers, then one for each layer. All ranks call it."""
        return map(self._gather, self._policy_buckets())

    def _policy_buckets(self) -> list[dict[str, Tensor]]:
        """Return the sharded tensors of each bucket, by their policy names."""
        tensors = named_tensors(self._built.network)
        return [{name: tensors[name] for name in names} for names in by_layer(list(tensors), self._built.layers)]

    @torch.no_grad()
    def _gather(self, tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        built = self._built
        for name, tensor in tensors.items():
            dtype, owner = self._target_dtype(tensor), built.owner_stage(name)
            if owner == built.stage.index:
                whole = gather_full(tensor, dtype).contiguous()
            else:
                whole = torch.empty(tensor.shape, dtype=dtype, device=built.device)
            yield from built.mapper.policy_to_hf(name, built.stage.broadcast_from(owner, whole))

    def _target_dtype(self, tensor: Tensor) -> torch.dtype:
        return tensor.dtype if self._dtype is None else wire_dtype(tensor, self._dtype)
