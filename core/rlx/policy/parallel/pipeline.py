"""Pipeline parallelism: ranks that each compute one stage, a contiguous run of the decoder layers.

Rules:

* Every rank has the whole network under its usual names. Parameters of other stages stay on the meta device, and their
  modules return their input. On later stages, the embedding returns the hidden states that the stage before sent.
* Modules before the layers are on the first stage, modules after them on the last. A weight that the embedding and the
  head share is on both: its gradients are summed before each optimizer step, which both stages then do alike.
* Tensors that all stages need (outputs, weights to send) are broadcast by their owner: the stage that has them, or the
  first of two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rlx.policy.parallel.tensors import named_tensors

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from torch.distributed.device_mesh import DeviceMesh


@dataclass(frozen=True)
class Stage:
    """One of `count` pipeline stages; `mesh` is the pp dimension."""

    index: int
    count: int
    mesh: DeviceMesh

    @classmethod
    def from_mesh(cls, mesh: DeviceMesh) -> Stage:
        return cls(mesh.get_local_rank(), mesh.size(), mesh)

    @property
    def first(self) -> bool:
        return self.index == 0

    @property
    def last(self) -> bool:
        return self.index == self.count - 1

    def broadcast_from(self, stage: int, tensor: Tensor) -> Tensor:
        """Broadcast that stage's `tensor` to all stages, in place; the others pass one of the same shape and dtype."""
        if self.count > 1:
            group = self.mesh.get_group()
            dist.broadcast(tensor, dist.get_global_rank(group, stage), group=group)
        return tensor

    def sum_over_stages(self, value: float) -> float:
        """Sum `value` over all stages, in float64."""
        total = torch.tensor(value, dtype=torch.float64, device=self.mesh.device_type)
        dist.all_reduce(total, group=self.mesh.get_group())
        return float(total)

    def sum_over_ends(self, tensor: Tensor) -> None:
        """Sum `tensor` over the first and the last stage, in place. Only these two call it, and get the same bits."""
        group = self.mesh.get_group()
        other = dist.get_global_rank(group, self.count - 1 if self.first else 0)
        theirs = torch.empty_like(tensor)
        # Point to point, since a collective would need a process group of these two ranks.
        both = [dist.P2POp(dist.isend, tensor, other, group), dist.P2POp(dist.irecv, theirs, other, group)]
        for work in dist.batch_isend_irecv(both):
            work.wait()
        tensor += theirs


@dataclass(frozen=True)
class PipelineParts:
    """The modules of a causal LM that hold parameters, in the order in which hidden states go through them.

    before: the embedding, and the modules between it and the layers. after: the modules after the layers; the last one
    is the head. hidden_size: of the hidden states between stages.
    """

    before: Sequence[nn.Module]
    layers: Sequence[nn.Module]
    after: Sequence[nn.Module]
    hidden_size: int

    def with_stages(self, count: int) -> list[tuple[nn.Module, int]]:
        """Return each module with the index of its stage, of `count` stages."""
        return [
            *((module, 0) for module in self.before),
            *((layer, stage_of_layer(index, len(self.layers), count)) for index, layer in enumerate(self.layers)),
            *((module, count - 1) for module in self.after),
        ]


class StageBoundary:
    """Passes hidden states from the stage before into this stage's layers, and notices if the model changes them.

    Hidden states must go unchanged from the embedding through the layers to the modules after them: a model that
    changes them in between would do so on every stage. `changed` is whether it did.
    """

    def __init__(self) -> None:
        self.changed = False
        self._hidden: Tensor | None = None
        """The last output of the embedding or of a layer."""

    def receive(self, hidden: Tensor | None) -> None:
        """Take the hidden states that the stage before computed for the next micro-batch; None on the first stage."""
        self._hidden = hidden

    def embedding_forward(self, *_args: object, **_kwargs: object) -> Tensor:
        """Return the received hidden states: the forward of the embedding on later stages."""
        assert self._hidden is not None
        return self._hidden

    def before_layer(self, _layer: nn.Module, inputs: tuple[object, ...]) -> None:
        """Check a layer's input; a forward pre-hook."""
        # None on the first stage before its first layer: there the embedding's output may be scaled, say. The same
        # scaling is noticed on the next stage, where it would be applied again.
        self.changed |= self._hidden is not None and not _same_tensor(inputs[0], self._hidden)

    def after_layer(self, _layer: nn.Module, _inputs: object, output: object) -> None:
        """Remember a layer's output; a forward hook."""
        self._hidden = output if isinstance(output, Tensor) else None
        self.changed |= self._hidden is None

    def send(self, hidden: Tensor) -> Tensor:
        """Check and return the hidden states that go to the next stage."""
        # If tp ranks share the positions, the model's output is a new tensor, gathered from all of them.
        self.changed |= self._hidden is None or (
            hidden.shape == self._hidden.shape and not _same_tensor(hidden, self._hidden)
        )
        return hidden


def stage_of_layer(layer: int, layers: int, stages: int) -> int:
    """Return the stage of a layer; stages have equally many layers, or differ by one."""
    return layer * stages // layers


def pipeline_refusal(network: nn.Module, parts: PipelineParts, stages: int) -> str | None:
    """Return why a network with these parts can't be cut into `stages` stages, or None."""
    if stages > len(parts.layers):
        return f"pp = {stages} is more than its {len(parts.layers)} layers"
    found = tensor_stages(network, parts, stages)
    tied = {*parts.before[0].parameters()} & {*parts.after[-1].parameters()}
    for name, parameter in network.named_parameters():
        if name not in found:
            return f"pp = {stages}, and {name} belongs to no module with a known stage"
        if len(found[name]) > (2 if parameter in tied else 1):
            return f"pp = {stages} puts the modules that use {name} on several stages"
    return None


def keep_stage(parts: PipelineParts, stage: Stage) -> StageBoundary:
    """Make the network that has these parts compute one stage only, in place."""
    boundary = StageBoundary()
    embedding = parts.before[0]
    for module, index in parts.with_stages(stage.count):
        if index != stage.index and module is not embedding:
            module.forward = lambda hidden, *_args, **_kwargs: hidden
    if not stage.first:
        embedding.forward = boundary.embedding_forward
    for layer in parts.layers:
        # Outside of the layer's other hooks, which may split positions over tp ranks.
        layer.register_forward_pre_hook(boundary.before_layer, prepend=True)
        layer.register_forward_hook(boundary.after_layer)
    return boundary


def tensor_stages(network: nn.Module, parts: PipelineParts, stages: int) -> dict[str, tuple[int, ...]]:
    """Return the stages that hold each policy tensor of the parts, in ascending order, by the tensor's name."""
    found: dict[int, set[int]] = {}
    for module, stage in parts.with_stages(stages):
        for tensor in (*module.parameters(), *module.buffers()):
            found.setdefault(id(tensor), set()).add(stage)
    tensors = named_tensors(network).items()
    return {name: tuple(sorted(found[id(tensor)])) for name, tensor in tensors if id(tensor) in found}


def remaining_modules(network: nn.Module, known: Collection[nn.Module]) -> Iterator[nn.Module]:
    """Yield the outermost modules that hold parameters and are neither known nor contain a known one."""
    for module in network.children():
        if module in known:
            continue
        if any(inner in known for inner in module.modules()):
            yield from remaining_modules(module, known)
        elif next(module.parameters(), None) is not None:
            yield module


def stage_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of this rank's stage, by name."""
    return {name: parameter for name, parameter in network.named_parameters() if not parameter.is_meta}


def _same_tensor(seen: object, hidden: Tensor) -> bool:
    """Return whether both share their memory: FSDP's hooks and autograd wrap one tensor in several objects."""
    return isinstance(seen, Tensor) and seen.data_ptr() == hidden.data_ptr() and seen.shape == hidden.shape
