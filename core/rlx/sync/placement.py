"""Where vLLM's loaders put each element of a tensor: learned by recording the copies of one update.

Fused projections, shards, experts, transposed and padded parameters are all copies of a part of a tensor to a part of a
parameter, so no model needs a special case. Values that a loader computes have none.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rlx.sync.digests import digest
from rlx.torch_private import TorchDispatchMode, storage_id

_COPY = torch.ops.aten.copy_.default
_FILLS = {torch.ops.aten.fill_.Scalar, torch.ops.aten.fill_.Tensor, torch.ops.aten.zero_.default}
"""Loaders fill the padding of a parameter with these."""


@dataclass(frozen=True)
class Part:
    """A strided part of a tensor. `offset` counts from the tensor's own first element."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def of(self, whole: Tensor) -> Tensor:
        """Return this part of `whole`, as a view."""
        return whole.as_strided(self.shape, self.stride, whole.storage_offset() + self.offset)


@dataclass(frozen=True)
class Place:
    """A part of a parameter, and the part of a sent tensor that a loader copies into it."""

    layer: str
    parameter: str
    target: Part
    layout: tuple[tuple[int, ...], tuple[int, ...]]
    """Shape and strides of the whole parameter as it is loaded."""
    tensor: str
    source: Part
    dtype: torch.dtype
    """In which both are compared: the smaller one of the two dtypes."""

    def expected(self, tensor: Tensor) -> int:
        """Return the digest of the part of the sent tensor."""
        return digest(self.source.of(tensor).to(self.dtype))

    def seen(self, parameter: Tensor) -> int | None:
        """Return the digest of the part of the parameter; None if that has another layout than when it is loaded."""
        if (tuple(parameter.shape), tuple(parameter.stride())) != self.layout:
            return None
        return digest(self.target.of(parameter).to(self.dtype))


class CopyRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call] # as below
    """Records the copies from the tensors of an update to parameters, while it is active."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        """`layers`: every module by its name, with the parameters to which loaders will copy."""
        super().__init__()  # type: ignore[no-untyped-call] # torch's class has no types
        self._tensors: list[tuple[int, str, Tensor]] = []
        self._parameters: dict[int, tuple[str, str, Tensor]] = {}
        for name, layer in layers.items():
            for key, parameter in layer.named_parameters(recurse=False):
                self._parameters.setdefault(storage_id(parameter), (name, key, parameter))
        self._places: dict[tuple[str, str], dict[Part, Place]] = {}
        self._computed: set[tuple[str, str]] = set()
        self._copied: dict[tuple[str, str], int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if args and isinstance(args[0], Tensor) and func not in _FILLS:
            schema: Any = getattr(func, "_schema", None)
            written = self._parameters.get(storage_id(args[0])) if schema is not None and schema.is_mutable else None
            if written is not None:
                self._record(written, func, args)
        return func(*args, **(kwargs or {}))

    def loads(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Note the names and tensors that are loaded next, until the next call. No two of them overlap."""
        nonempty = ((tensor.data_ptr(), name, tensor) for name, tensor in tensors if tensor.numel())
        self._tensors = sorted(nonempty, key=lambda entry: entry[0])

    def places(self) -> Iterator[Place]:
        """Yield all places that are known so far."""
        for where, places in self._places.items():
            if where not in self._computed:
                yield from places.values()

    def share(self) -> float:
        """Return the share of the loaded elements that have a known place."""
        return sum(map(_count, self.places())) / max(1, sum(self._copied.values()))

    def _record(self, written: tuple[str, str, Tensor], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        layer, key, parameter = written
        where, target = (layer, key), args[0]
        found = self._source(args[1].expand_as(target)) if func is _COPY else None
        if found is None:
            self._computed.add(where)
            self._copied[where] = parameter.numel()
            return
        name, source, dtype = found
        part = Part(tuple(target.shape), tuple(target.stride()), target.storage_offset() - parameter.storage_offset())
        layout = tuple(parameter.shape), tuple(parameter.stride())
        narrower = min(dtype, target.dtype, key=lambda it: it.itemsize)
        place = Place(layer, key, part, layout, name, source, narrower)
        # A part that is loaded again has the later value.
        self._places.setdefault(where, {})[part] = place
        if where not in self._computed:
            self._copied[where] = sum(map(_count, self._places[where].values()))

    def _source(self, view: Tensor) -> tuple[str, Part, torch.dtype] | None:
        if view.is_meta or not view.numel():
            return None
        at = bisect_right(self._tensors, view.data_ptr(), key=lambda entry: entry[0]) - 1
        if at < 0:
            return None
        _, name, tensor = self._tensors[at]
        offset = int(view.storage_offset() - tensor.storage_offset())
        if storage_id(view) != storage_id(tensor) or view.dtype != tensor.dtype or offset >= tensor.numel():
            return None
        return name, Part(tuple(view.shape), tuple(view.stride()), offset), tensor.dtype


def _count(place: Place) -> int:
    return math.prod(place.target.shape)
