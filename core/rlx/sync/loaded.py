"""The engine's side of the proof of a sync: what came over the wire is in the engine, bit for bit.

Rules:

* The places of all elements are learned while the first update is loaded. After each update, what came over the wire is
  compared with what is in these places, whatever the loader did.
* vLLM converts some parameters for its kernels when they are loaded (packed matrices on the CPU, reordered experts).
  They are compared directly before the conversion. The engine must then use the result of this conversion.
* Digests are compared, so nothing of the last update needs to be kept but a few numbers for each tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase

from rlx.sync.digests import digest
from rlx.sync.encoded_digests import encode
from rlx.sync.placement import CopyRecorder, Place
from rlx.sync.vllm_reload import PACKED, Ties
from rlx.transport.messages import WeightProof

if TYPE_CHECKING:
    from torch import Tensor, nn

_CONVERT = "process_weights_after_loading"
NO_VERSION = -1


@dataclass
class _Update:
    """Digests of the update in progress, or of the last one."""

    version: int = NO_VERSION
    sent: dict[str, int] = field(default_factory=dict)
    """Of each tensor as it came over the wire."""
    expected: dict[Place, int] = field(default_factory=dict)
    """Of the parts of these tensors."""
    loaded: dict[Place, int | None] = field(default_factory=dict)
    """Of the parts of parameters, directly before vLLM converts them."""
    converted: dict[tuple[str, str], int] = field(default_factory=dict)
    """Of whole parameters, directly after that."""
    packed: dict[str, object] = field(default_factory=dict)
    """Results of the packing of each layer."""


class LoadedWeights:
    """Follows the tensors of each update into the model of one engine worker."""

    def __init__(self, model: nn.Module) -> None:
        self._layers = dict(model.named_modules())
        self._names = {id(layer): name for name, layer in self._layers.items()}
        self._recorder: CopyRecorder | None = None
        self._places: list[Place] = []
        self._by_layer: dict[str, list[Place]] = {}
        self._by_tensor: dict[str, list[Place]] = {}
        self._share = 0.0
        self._learned = False
        self._update = _Update()
        self._followed: list[QuantizeMethodBase] = []

    def begin(self) -> None:
        """Begin an update. Call it when vLLM's reload has been initialised."""
        self._update = _Update()
        if not self._learned:
            self._recorder = CopyRecorder(self._layers)
        for layer in self._layers.values():
            method = getattr(layer, "quant_method", None)
            if isinstance(method, QuantizeMethodBase) and _CONVERT not in vars(method):
                self._follow(method, method.process_weights_after_loading)

    def load(
        self,
        version: int,
        tensors: Iterable[tuple[str, Tensor]],
        load: Callable[[Iterator[tuple[str, Tensor]]], object],
    ) -> None:
        """Load the tensors of one bucket of `version` through `load`."""
        named = list(tensors)
        self._update.version = version
        self._update.sent |= {name: digest(tensor) for name, tensor in named}
        if self._recorder is not None:
            self._recorder.loads(named)
        with self._recorder or nullcontext():
            load(iter(named))
        self._learn()
        for name, tensor in named:
            self._update.expected |= {place: place.expected(tensor) for place in self._by_tensor.get(name, ())}

    def end(self) -> None:
        """End the update. Call it when vLLM's reload has been finalised."""
        self._learn()
        self._share = self._share if self._recorder is None else self._recorder.share()
        self._learned, self._recorder = True, None
        self.abandon()

    def abandon(self) -> None:
        """End an update that failed. If it was the first one, the next one is learned from."""
        for method in self._followed:
            vars(method).pop(_CONVERT, None)
        self._followed.clear()

    def proof(self, worker: str, names: Sequence[str], ties: Ties) -> WeightProof:
        """Compare what the model holds with what the last update brought; `names`: of the tensors of every transfer."""
        faults = [
            f"{place.layer}.{place.parameter} does not hold what was sent as {place.tensor}"
            for name in names
            for place in self._by_tensor.get(name, ())
            if not self._holds(place)
        ]
        faults += [f"{name} does not use the weight that it is tied to" for name in ties.broken()]
        return WeightProof(
            worker=worker,
            version=self._update.version,
            digests=encode([self._update.sent.get(name, 0) for name in names]),
            faults=list(dict.fromkeys(faults)),
            covered=self._share,
            uncovered=[name for name in names if name not in self._by_tensor],
        )

    def _learn(self) -> None:
        """Take over the places that have been recorded so far, during the first update."""
        if self._recorder is None:
            return
        self._places = list(self._recorder.places())
        self._by_layer, self._by_tensor = {}, {}
        for place in self._places:
            self._by_layer.setdefault(place.layer, []).append(place)
            self._by_tensor.setdefault(place.tensor, []).append(place)

    def _follow(self, method: QuantizeMethodBase, convert: Callable[[nn.Module], None]) -> None:
        """Take the digests of parameters before and after `convert`, vLLM's conversion for its kernels."""

        def followed(layer: nn.Module) -> None:
            name = self._names.get(id(layer), "")
            self._learn()
            for place in self._by_layer.get(name, ()):
                self._update.loaded[place] = place.seen(getattr(layer, place.parameter))
            convert(layer)
            for key, parameter in layer.named_parameters(recurse=False):
                self._update.converted[name, key] = digest(parameter)
            if PACKED in vars(layer):
                self._update.packed[name] = vars(layer)[PACKED]

        setattr(method, _CONVERT, followed)
        self._followed.append(method)

    def _holds(self, place: Place) -> bool:
        layer = self._layers[place.layer]
        parameter = layer.get_parameter(place.parameter)
        expected = self._update.expected.get(place)
        if expected is None or vars(layer).get(PACKED) is not self._update.packed.get(place.layer):
            return False
        if place.seen(parameter) == expected:
            return True
        converted = self._update.converted.get((place.layer, place.parameter))
        return self._update.loaded.get(place) == expected and digest(parameter) == converted
