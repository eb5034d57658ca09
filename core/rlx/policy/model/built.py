"""A policy's network after it was built and sharded, with what is known of its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rlx.models.plugin import WeightMapper
from rlx.policy.model.forward import PolicyModel
from rlx.policy.parallel.pipeline import Stage


@dataclass(frozen=True)
class Built:
    """A network on its ranks, and what is known of its checkpoint."""

    model: PolicyModel
    """The root that FSDP wraps."""
    network: nn.Module
    """The causal LM inside; its names are the policy's tensor names."""
    mapper: WeightMapper
    layers: str
    """Name of the list of decoder layers."""
    folder: Path
    hf_config: Any
    device: torch.device
    stage: Stage
    places: Mapping[str, tuple[int, ...]]
    """The stages that a tensor lies on, where it isn't the first one only."""

    @property
    def parameters(self) -> int:
        """How many numbers the whole model has; tied ones count once."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def tied(self) -> list[str]:
        """Parameters that lie on the first stage and on the last."""
        return [name for name, stages in self.places.items() if len(stages) > 1]

    def teller(self, name: str) -> int:
        """The stage whose value of a tensor counts, of those that have one."""
        return self.places.get(name, (0,))[0]
