"""Pipeline stages: ranks that each hold a run of the decoder layers.

The rules of this part:

* Every rank has the whole network by its names. Parameters of other stages stay on the meta device, and their modules
  pass on what they get. In the place of the embedding comes what the stage before has made.
* What comes before the layers lies on the first stage; what comes after them, on the last. An embedding that is the
  head lies on both: its gradients are added up before each step, which both then do alike.
* Whatever all ranks of pp must know (outputs, weights that are sent) is told by the stage that has it, or by the first
  of two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rlx.policy.parallel.tensors import named_tensors

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

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

    def add_up_ends(self, tensor: Tensor) -> None:
        """In place, on the first stage and on the last; only these two call it, and get the same bits."""
        group = self.mesh.get_group()
        other = dist.get_global_rank(group, self.count - 1 if self.first else 0)
        theirs = torch.empty_like(tensor)
        # An exchange, since a collective of these two would need a process group of theirs.
        both = [dist.P2POp(dist.isend, tensor, other, group), dist.P2POp(dist.irecv, theirs, other, group)]
        for work in dist.batch_isend_irecv(both):
            work.wait()
        tensor += theirs


@dataclass(frozen=True)
class Parts:
    """The modules of a causal LM that hold parameters, in the order in which hidden states go through them.

    before: the embedding, then what follows it. after: what comes after the layers, and the head, last.
    """

    before: Sequence[nn.Module]
    layers: Sequence[nn.Module]
    after: Sequence[nn.Module]

    def placed(self, stages: int) -> list[tuple[Any, int]]:
        """Each of them, and the stage that it lies on."""
        return [
            *((part, 0) for part in self.before),
            *((layer, stage_of_layer(index, len(self.layers), stages)) for index, layer in enumerate(self.layers)),
            *((part, stages - 1) for part in self.after),
        ]


class StageBoundary:
    """Where hidden states come from the stage before, and where they go to the next one.

    A model that changes them between its parts would do so on every stage: `changed` says that it did.
    """

    def __init__(self) -> None:
        self.changed = False
        self._hidden: Tensor | None = None
        """Hidden states as the embedding or a layer handed them on last."""

    def receive(self, hidden: Tensor | None) -> None:
        """What the stage before made of the next micro-batch; None on the first."""
        self._hidden = hidden

    def hand_on(self, *_args: Any, **_kwargs: Any) -> Tensor:
        """The forward of the embedding, on later stages."""
        assert self._hidden is not None
        return self._hidden

    def enter(self, _layer: nn.Module, inputs: tuple[object, ...]) -> None:
        """Hook before a layer. What the first stage makes of its embedding is its own affair."""
        self.changed |= self._hidden is not None and not _same(inputs[0], self._hidden)

    def leave(self, _layer: nn.Module, _inputs: object, output: object) -> None:
        """Hook after a layer."""
        self._hidden = output if isinstance(output, Tensor) else None
        self.changed |= self._hidden is None

    def sent(self, hidden: Tensor) -> Tensor:
        """What the stage has made of a micro-batch, for the next one."""
        # Where ranks of tp share the slots, what leaves the model is a new tensor of all of them.
        self.changed |= self._hidden is None or (hidden.shape == self._hidden.shape and not _same(hidden, self._hidden))
        return hidden


def stage_of_layer(layer: int, layers: int, stages: int) -> int:
    """As many layers on each stage as on the others, or one more."""
    return layer * stages // layers


def refusal(network: nn.Module, parts: Parts, stages: int) -> str | None:
    """Why a network of these parts can't be cut into so many stages."""
    if stages > len(parts.layers):
        return f"pp = {stages} is more than its {len(parts.layers)} layers"
    places = places_of(network, parts, stages)
    tied = {*parts.before[0].parameters()} & {*parts.after[-1].parameters()}
    for name, parameter in network.named_parameters():
        if name not in places:
            return f"pp = {stages}, and nobody can tell which stage uses {name}"
        if len(places[name]) > (2 if parameter in tied else 1):
            return f"pp = {stages} puts what uses {name} on several stages"
    return None


def cut(parts: Parts, stage: Stage) -> StageBoundary:
    """Make the network of these parts compute one stage."""
    seam = StageBoundary()
    embedding: Any = parts.before[0]
    for part, place in parts.placed(stage.count):
        if place != stage.index and part is not embedding:
            part.forward = _pass_on
    if not stage.first:
        embedding.forward = seam.hand_on
    for layer in parts.layers:
        # Before other hooks, and after them: those that split slots over ranks of tp are of the layer.
        layer.register_forward_pre_hook(seam.enter, prepend=True)
        layer.register_forward_hook(seam.leave)
    return seam


def places_of(network: nn.Module, parts: Parts, stages: int) -> dict[str, tuple[int, ...]]:
    """The stages that each policy tensor of the parts lies on."""
    found: dict[int, set[int]] = {}
    for part, place in parts.placed(stages):
        for tensor in (*part.parameters(), *part.buffers()):
            found.setdefault(id(tensor), set()).add(place)
    tensors = named_tensors(network).items()
    return {name: tuple(sorted(found[id(tensor)])) for name, tensor in tensors if id(tensor) in found}


def others(network: nn.Module, known: Collection[nn.Module]) -> Iterator[nn.Module]:
    """The outermost modules that hold parameters, beside the known ones."""
    for module in network.children():
        if module in known:
            continue
        if any(inner in known for inner in module.modules()):
            yield from others(module, known)
        elif next(module.parameters(), None) is not None:
            yield module


def held(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that lie on this rank's stage."""
    return {name: parameter for name, parameter in network.named_parameters() if not parameter.is_meta}


def _pass_on(hidden: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    return hidden


def _same(seen: object, hidden: Tensor) -> bool:
    """Whether it is that very tensor: FSDP's hooks and autograd make new objects of one."""
    return isinstance(seen, Tensor) and seen.data_ptr() == hidden.data_ptr() and seen.shape == hidden.shape
