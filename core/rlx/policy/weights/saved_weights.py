"""The weights of a checkpoint under Hugging Face names, read in one process, without the run's ranks.

Rule: one decoder layer is in memory at a time, so that one process can export what many ranks have written.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from rlx.errors import RunError, abbreviate
from rlx.policy.parallel.tensors import by_layer, decoder_layers, named_tensors, wire_dtype
from rlx.policy.weights.checkpoint import read_state, read_weights, weight_names

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rlx.models.plugin import WeightMapper


class SavedWeights:
    """The policy's part of a checkpoint (`checkpoints/step_<version>/policy`)."""

    def __init__(self, path: Path, network: nn.Module, mapper: WeightMapper) -> None:
        """`network`: as the run built it, with its parameters on the meta device.

        Raises RunError if the checkpoint isn't complete, or is one of another model.
        """
        self._path = path
        self.step = read_state(path).step
        """Steps that made these weights."""
        self._mapper = mapper
        self._tensors = named_tensors(network)
        self._layers = decoder_layers(network)[0]
        if other := sorted(weight_names(path) ^ set(self._tensors)):
            raise RunError(
                f"{path} isn't a checkpoint of this model: {abbreviate(other)} "
                f"{'is' if len(other) == 1 else 'are'} in one of them only. Is the model plugin the one of the run?"
            )

    def buckets(self, dtype: torch.dtype | None = None) -> Iterator[list[tuple[str, Tensor]]]:
        """Yield checkpoint names and tensors: those outside the decoder layers, then layer by layer.

        dtype: that of parameters. Default: float32, in which the run keeps them. Buffers keep their own.
        """
        for names in by_layer(list(self._tensors), self._layers):
            whole = {name: torch.empty_like(self._tensors[name], device="cpu") for name in names}
            read_weights(self._path, whole)
            if dtype is not None:
                whole = {name: tensor.to(wire_dtype(self._tensors[name], dtype)) for name, tensor in whole.items()}
            yield [pair for name in names for pair in self._mapper.policy_to_hf(name, whole[name])]
