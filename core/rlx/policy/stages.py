"""Pipeline stages: ranks that each hold a run of the decoder layers.

The rules of this part:

* Every rank has the whole network by its names. Parameters of other stages stay on the meta device, and their modules
  pass on what they get.
* What comes before the layers lies on the first stage; what comes after them, on the last.
* Whatever all ranks of pp must know (outputs, weights that are sent) is told by the stage that has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn
    from torch.distributed.device_mesh import DeviceMesh


@dataclass(frozen=True)
class Stage:
    """One of `count` stages; `mesh` is the pp dimension."""

    index: int
    count: int
    mesh: DeviceMesh

    @classmethod
    def of(cls, mesh: DeviceMesh) -> Stage:
        return cls(mesh.get_local_rank(), mesh.size(), mesh)

    @property
    def first(self) -> bool:
        return self.index == 0

    @property
    def last(self) -> bool:
        return self.index == self.count - 1

    def tell(self, tensor: Tensor, stage: int) -> Tensor:
        """`tensor` of that stage, on every one; the others give one like it."""
        if self.count > 1:
            group = self.mesh.get_group()
            dist.broadcast(tensor, dist.get_global_rank(group, stage), group=group)
        return tensor

    def summed(self, value: float) -> float:
        """The sum over stages, in float64."""
        total = torch.tensor(value, dtype=torch.float64, device=self.mesh.device_type)
        dist.all_reduce(total, group=self.mesh.get_group())
        return float(total)


def stage_of_layer(layer: int, layers: int, stages: int) -> int:
    """As many layers on each stage as on the others, or one more."""
    return layer * stages // layers


def cut(module: Any, stage: Stage) -> Mapping[str, int]:
    """Make a transformers model compute one stage; returns where each of its parameters lies."""
    for part, place in _places(module, stage.count):
        if place != stage.index:
            part.forward = _pass_on
    return _parameters(module, stage.count)


def pipeline_refusal(module: Any, stages: int) -> str | None:
    """Why a transformers model can't be cut into so many stages."""
    if not module.config.get_text_config().base_model_pp_plan or module.get_output_embeddings() is None:
        return f"{type(module).__name__} has no pipeline plan"
    if module.get_output_embeddings().weight is module.get_input_embeddings().weight:
        return f"pp = {stages} puts its embedding and its head on different ranks, and they are one tensor"
    layers = len(module.get_decoder().layers)
    if stages > layers:
        return f"pp = {stages} is more than its {layers} layers"
    placed = _parameters(module, stages)
    left_out = [name for name, _ in module.named_parameters() if name not in placed]
    return f"its pipeline plan has no place for {left_out[0]}" if left_out else None


def _places(module: Any, stages: int) -> list[tuple[Any, int]]:
    """The modules that hold parameters, in the order of the model's own plan, and the stage that each lies on."""
    decoder = module.get_decoder()
    layers = decoder.layers
    plan = list(module.config.get_text_config().base_model_pp_plan)
    before, after = plan[: plan.index("layers")], plan[plan.index("layers") + 1 :]
    return [
        *((getattr(decoder, name), 0) for name in before),
        *((layer, stage_of_layer(index, len(layers), stages)) for index, layer in enumerate(layers)),
        *((getattr(decoder, name), stages - 1) for name in after),
        (module.get_output_embeddings(), stages - 1),
    ]


def _parameters(module: Any, stages: int) -> dict[str, int]:
    stage_of = {id(inner): place for part, place in _places(module, stages) for inner in part.modules()}
    owners = {name: id(module.get_submodule(name.rpartition(".")[0])) for name, _ in module.named_parameters()}
    return {name: stage_of[owner] for name, owner in owners.items() if owner in stage_of}


def _pass_on(hidden: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    return hidden


def held(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that lie on this rank's stage."""
    return {name: parameter for name, parameter in network.named_parameters() if not parameter.is_meta}
