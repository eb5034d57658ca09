"""Estimates of the memory that a run needs, made before it starts.

`MemoryPlan` is for a machine whose own memory is used by all processes, `DevicePlan` for devices with memory of their
own, one for each policy rank and each worker of an engine. Both are lower bounds: activations and other
allocations come on top, so a run that does not fit by these numbers can't fit.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlx.algorithms.base import Algorithm
from rlx.config.schema import Config
from rlx.errors import ConfigError, UsageError
from rlx.platform import PLATFORMS
from rlx.preflight.checks.model import ModelSize
from rlx.preflight.checks.model_facts import ModelFacts

GIB = 2**30
TRAINING_BYTES = 16
"""For each parameter: master weight, gradient and the two moments of AdamW, float32 each."""
COPY_BYTES = 12
"""For each parameter while a checkpoint is written: a copy of the weight and the moments."""
GRADIENT_BYTES = 4
REFERENCE_BYTES = 4
"""For each parameter of the frozen reference, in float32."""
POLICY_PROCESS_BYTES = int(0.25 * GIB)
"""Unshared memory of a process that has imported torch and transformers (CPU builds; 0.39 GiB with shared pages)."""
VLLM_PROCESS_BYTES = int(0.38 * GIB)
"""The same after importing vLLM (0.56 GiB with shared pages)."""
REWARD_PROCESS_BYTES = int(0.03 * GIB)
"""The same of a reward process, without what the rewards import."""
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
KV_SPACE = "VLLM_CPU_KVCACHE_SPACE"
_REDUCED_BYTES = 4
"""For each entry of a gradient while ranks reduce it, in float32."""
_LAYERS_AT_ONCE = 2
"""Layers that FSDP has gathered at once: the current one, and the next, which it prefetches."""
_END_STAGES = 2
"""Pipeline stages that hold parameters outside of the layers: the first and the last."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes over all processes of the run on this machine."""

    policy: int
    checkpoint_copy: int
    reference: int
    engine_weights: int
    engine_cache: int
    policy_processes: int
    engine_processes: int
    reward_processes: int

    @property
    def total(self) -> int:
        return sum(vars(self).values())

    def lines(self) -> list[tuple[str, int]]:
        """Return name and bytes of each part that isn't 0."""
        parts = {
            "policy: weights, gradients, Adam": self.policy,
            "policy: copy for checkpoints": self.checkpoint_copy,
            "frozen reference": self.reference,
            "engines: weights": self.engine_weights,
            "engines: key-value cache": self.engine_cache,
            "policy processes and their libraries": self.policy_processes,
            "engine processes and their libraries": self.engine_processes,
            "reward processes": self.reward_processes,
        }
        return [(name, size) for name, size in parts.items() if size]


def plan_memory(config: Config, facts: ModelFacts, algorithm: Algorithm) -> MemoryPlan | None:
    """Estimate the host memory; None if devices have their own, or if the weights are not on this machine yet."""
    if facts.parameters is None or not PLATFORMS[config.run.device].host_memory:
        return None
    parallel, rollout = config.policy.parallel, config.rollout
    engines = rollout.replicas if algorithm.rollouts else 0
    item = ITEM_BYTES[rollout.dtype or config.policy.dtype]
    copies = parallel.dp_replicate * facts.parameters
    return MemoryPlan(
        policy=TRAINING_BYTES * copies,
        checkpoint_copy=_checkpoint_copy(config, facts.parameters),
        reference=REFERENCE_BYTES * copies if algorithm.needs_reference else 0,
        engine_weights=engines * item * facts.parameters,
        engine_cache=engines * rollout.tensor_parallel * _engine_cache(config) if engines else 0,
        policy_processes=parallel.world_size * POLICY_PROCESS_BYTES,
        engine_processes=engines * (1 + rollout.tensor_parallel) * VLLM_PROCESS_BYTES,
        reward_processes=engines * rollout.reward_workers * REWARD_PROCESS_BYTES,
    )


def _checkpoint_copy(config: Config, parameters: int) -> int:
    """Return the bytes that the copy for checkpoints adds to the peak; ranks with the same shards copy one each."""
    if config.run.steps == 0:
        return 0
    # There are no gradients any more when the last checkpoint is the only one.
    return (COPY_BYTES if config.checkpoint.midway else COPY_BYTES - GRADIENT_BYTES) * parameters


def _engine_cache(config: Config) -> int:
    """Return the bytes of an engine worker's key-value cache."""
    cache = config.rollout.vllm.get("kv_cache_memory_bytes")
    if isinstance(cache, int):
        return max(cache, 0)
    space = {**PLATFORMS[config.run.device].engine_env, **config.rollout.env}.get(KV_SPACE, "0")
    # vLLM reads it with `int`.
    if not space.strip().isdecimal():
        raise ConfigError(f"[rollout] env: {KV_SPACE} = {space!r} isn't a whole number of GiB.")
    return int(space) * GIB


def check_memory(plan: MemoryPlan, available: int, config: Config) -> None:
    """Raise UsageError if the run can't fit; it names the keys that the large parts follow from, largest part first."""
    if plan.total <= available:
        return
    rollout = config.rollout
    ranks = [f"[policy.parallel] {name} = {size:,}" for name, size in config.policy.parallel.sizes.items() if size > 1]
    copies = [key for key in ranks if "dp_replicate" in key]
    replicas = [f"[rollout] replicas = {rollout.replicas:,}"] if rollout.replicas > 1 else []
    workers = [f"[rollout] tensor_parallel = {rollout.tensor_parallel:,}"] if rollout.tensor_parallel > 1 else []
    parts = [
        (plan.policy + plan.checkpoint_copy + plan.reference, ["the size of the model", *copies]),
        (plan.engine_weights, ["the size of the model", *replicas]),
        (plan.engine_cache, [f"{KV_SPACE} in [rollout] env", *replicas, *workers]),
        (plan.policy_processes, ranks),
        (plan.engine_processes, [*replicas, *workers]),
        (plan.reward_processes, [f"[rollout] reward_workers = {rollout.reward_workers:,}", *replicas]),
    ]
    large = sorted(((size, causes) for size, causes in parts if size >= plan.total / len(parts)), reverse=True)
    follows_from = ", ".join(dict.fromkeys(cause for _, causes in large for cause in causes)) or "its processes"
    lines = "\n".join(f"  {format_bytes(size):>11}  {name}" for name, size in plan.lines())
    raise UsageError(
        f"Too little memory: the run needs at least {format_bytes(plan.total)} and {format_bytes(available)} are "
        "available.\n"
        f"{lines}\n"
        f"Most of it follows from {follows_from}."
    )


@dataclass(frozen=True)
class DevicePlan:
    """Bytes on one device.

    As FSDP works: parameters outside of the layers stay gathered from forward to backward; layers are gathered one
    after another, the next one while the current one is in use. tp and ep are taken to split all of a layer, and the
    first and last pipeline stage to share the other parameters evenly, though a head that is the embedding is on both.
    """

    shards: int
    gathered: int
    gradients: int
    reference: int
    engine_weights: int

    @property
    def rank(self) -> int:
        """Bytes for a policy rank."""
        return self.shards + self.gathered + self.gradients + self.reference

    def lines(self) -> list[tuple[str, int]]:
        """Return name and bytes of each part of a policy rank that isn't 0."""
        parts = {
            "its share of weights, gradients, Adam": self.shards,
            "gathered weights of two layers and what surrounds them": self.gathered,
            "gradients of a layer, whole": self.gradients,
            "frozen reference": self.reference,
        }
        return [(name, size) for name, size in parts.items() if size]


def plan_devices(config: Config, size: ModelSize | None, algorithm: Algorithm) -> DevicePlan | None:
    """Estimate a device's memory; None if devices use the host's, or if the model is not on this machine yet."""
    if size is None or PLATFORMS[config.run.device].host_memory:
        return None
    item = ITEM_BYTES[config.policy.dtype]
    parallel = config.policy.parallel
    layer = size.layer // (parallel.tp * parallel.ep)
    around = size.surroundings // min(parallel.pp, _END_STAGES)
    layers = (size.parameters - size.surroundings) // parallel.pp
    own = (around + layers) // parallel.shard_size
    reduced = 0 if item == _REDUCED_BYTES else _REDUCED_BYTES
    engine_item = ITEM_BYTES[config.rollout.dtype or config.policy.dtype]
    return DevicePlan(
        shards=TRAINING_BYTES * own,
        gathered=item * (around + _LAYERS_AT_ONCE * layer),
        gradients=(item + reduced) * max(layer, around),
        reference=REFERENCE_BYTES * own + item * around if algorithm.needs_reference else 0,
        engine_weights=engine_item * size.parameters // config.rollout.tensor_parallel if algorithm.rollouts else 0,
    )


def format_bytes(size: int) -> str:
    if size < 2**20:
        return "under 1 MiB"
    return f"{size / GIB:.2f} GiB" if size >= GIB // 10 else f"{size / 2**20:.0f} MiB"


def available_memory() -> int:
    """Return the bytes that new processes can use without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)
