"""What a run will need on devices with memory of their own: one for each policy rank and each worker of an engine.

An estimate from below, by how FSDP works: what surrounds the layers is gathered from forward to backward, layers one
after another, the next one while the last is still there. Of a layer, tp and ep are taken to split everything, and
stages to share what surrounds the layers evenly between the first and the last, though a head that is the embedding
lies on both. What they leave for FSDP to gather, activations, key-value caches and what libraries take come on top.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlx.config.schema import Config
from rlx.launch.memory import ITEM_BYTES, REFERENCE_BYTES, TRAINING_BYTES
from rlx.launch.preflight_model import ModelSize
from rlx.platform import PLATFORMS

_REDUCED_BYTES = 4
"""Of a gradient while ranks add it up, in float32."""
_LAYERS_AT_ONCE = 2
_ENDS = 2


@dataclass(frozen=True)
class DevicePlan:
    """Bytes on one device."""

    shards: int
    gathered: int
    gradients: int
    reference: int
    engine_weights: int

    @property
    def rank(self) -> int:
        """All that a policy rank needs."""
        return self.shards + self.gathered + self.gradients + self.reference

    def lines(self) -> list[tuple[str, int]]:
        """What each part of a rank is called, and its bytes; parts of 0 left out."""
        parts = {
            "its share of weights, gradients, Adam": self.shards,
            "gathered weights of two layers and what surrounds them": self.gathered,
            "gradients of a layer, whole": self.gradients,
            "frozen reference": self.reference,
        }
        return [(name, size) for name, size in parts.items() if size]


def plan_devices(config: Config, size: ModelSize | None, *, rollouts: bool, needs_reference: bool) -> DevicePlan | None:
    """None where it can't be told: a model that is not here yet, or a machine whose devices share its memory."""
    if size is None or PLATFORMS[config.run.device].host_memory:
        return None
    item = ITEM_BYTES[config.policy.dtype]
    parallel = config.policy.parallel
    layer = size.layer // (parallel.tp * parallel.ep)
    around = size.surroundings // min(parallel.pp, _ENDS)
    layers = (size.parameters - size.surroundings) // parallel.pp
    own = (around + layers) // parallel.shard_size
    reduced = 0 if item == _REDUCED_BYTES else _REDUCED_BYTES
    engine_item = ITEM_BYTES[config.rollout.dtype or config.policy.dtype]
    return DevicePlan(
        shards=TRAINING_BYTES * own,
        gathered=item * (around + _LAYERS_AT_ONCE * layer),
        gradients=(item + reduced) * max(layer, around),
        reference=REFERENCE_BYTES * own + item * around if needs_reference else 0,
        engine_weights=engine_item * size.parameters // config.rollout.tensor_parallel if rollouts else 0,
    )
