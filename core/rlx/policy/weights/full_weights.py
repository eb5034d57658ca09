"""The policy's weights as a Hugging Face checkpoint has them: full tensors under its names, layer by layer.

Rules:

* Names, dtypes and shapes are known in advance, from meta tensors through the same mapper.
* The tensors of the mapper are checked against the policy's own, so a mapper that keeps an old one is noticed.
* Gathering is a collective: every rank iterates over all buckets, and to the end of each. A tensor is gathered when it
  is requested, and may be freed when the next one is requested.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from rlx.policy.parallel.tensors import by_layer, gather_full, named_tensors, wire_dtype
from rlx.sync.digests import same_bits

if TYPE_CHECKING:
    from torch import Tensor

    from rlx.policy.model.built import Built


class FullWeights:
    """Gathers the full weights. Parameters are converted to `dtype`; None keeps the dtype of the master weights."""

    def __init__(self, built: Built, dtype: torch.dtype | None) -> None:
        self._built = built
        self._dtype = dtype
        self.outdated: list[str] = []
        """Policy tensors of which the mapper returned other values, in the last `buckets` with `check`."""

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

    def buckets(self, *, check: bool = False) -> Iterator[Iterator[tuple[str, Tensor]]]:
        """Yield a bucket of the tensors outside the decoder layers, then one for each layer. All ranks call it.

        check: map what the mapper returns back, and compare it with the policy's tensor: see `outdated`.
        """
        self.outdated = []
        return (self._gather(tensors, check) for tensors in self._policy_buckets())

    def _policy_buckets(self) -> list[dict[str, Tensor]]:
        """Return the sharded tensors of each bucket, by their policy names."""
        tensors = named_tensors(self._built.network)
        return [{name: tensors[name] for name in names} for names in by_layer(list(tensors), self._built.layers)]

    @torch.no_grad()
    def _gather(self, tensors: dict[str, Tensor], check: bool) -> Iterator[tuple[str, Tensor]]:
        built = self._built
        for name, tensor in tensors.items():
            dtype, owner = self._target_dtype(tensor), built.owner_stage(name)
            if owner == built.stage.index:
                whole = gather_full(tensor, dtype).contiguous()
            else:
                whole = torch.empty(tensor.shape, dtype=dtype, device=built.device)
            whole = built.stage.broadcast_from(owner, whole)
            if not check:
                yield from built.mapper.policy_to_hf(name, whole)
                continue
            changes = whole._version  # noqa: SLF001 - torch has no public count of the changes of a tensor
            parts = list(built.mapper.policy_to_hf(name, whole))
            if whole._version != changes or not self._maps_back(name, whole, parts):  # noqa: SLF001 - as above
                self.outdated.append(name)
            yield from parts

    def _maps_back(self, name: str, whole: Tensor, parts: list[tuple[str, Tensor]]) -> bool:
        """Return whether the mapper makes `whole` of `parts` again. One that can't, from these alone, isn't judged.

        Nothing is copied if all parts are views of `whole`, which then have its values.
        """
        if all(part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr() for _, part in parts):
            return True
        made = dict(self._built.mapper.hf_to_policy(iter(parts))).get(name)
        return made is None or same_bits(made.to(whole.dtype), whole)

    def _target_dtype(self, tensor: Tensor) -> torch.dtype:
        return tensor.dtype if self._dtype is None else wire_dtype(tensor, self._dtype)
