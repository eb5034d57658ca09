"""Built: a sharded network, and how its tensors map to its checkpoint and pipeline stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from rlx.models.base_model import HFConfig
from rlx.models.plugin import WeightMapper
from rlx.policy.model.forward import PolicyModel
from rlx.policy.parallel.pipeline import Stage


@dataclass(frozen=True)
class Built:
    """A network that is built, sharded and loaded on its ranks."""

    model: PolicyModel
    """The root module that FSDP wraps."""
    network: nn.Module
    """The causal LM inside; its names are the policy's tensor names."""
    mapper: WeightMapper
    layers: str
    """Name of the list of decoder layers."""
    folder: Path
    """The model folder that its weights were loaded from."""
    hf_config: HFConfig
    """As `AutoConfig` or the model plugin made it."""
    device: torch.device
    stage: Stage
    tensor_stages: Mapping[str, tuple[int, ...]]
    """The pipeline stages that hold each tensor; empty without pp. Other tensors are on the first stage."""

    @property
    def num_parameters(self) -> int:
        """Number of elements of the whole model's parameters; tied ones count once."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def tied(self) -> list[str]:
        """Names of the parameters that both the first and the last stage hold."""
        return [name for name, stages in self.tensor_stages.items() if len(stages) > 1]

    def owner_stage(self, name: str) -> int:
        """Return the stage that broadcasts and saves a tensor."""
        return self.tensor_stages.get(name, (0,))[0]
