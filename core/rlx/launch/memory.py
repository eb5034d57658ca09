"""What a run will need of the machine's memory, before it starts.

An estimate from below: parameters and their training state, the engines' weights and key-value space, and what a
process with its libraries takes. Activations come on top, so a run that does not fit by this estimate can't fit.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlx.config.schema import Config
from rlx.errors import UsageError
from rlx.launch.model_facts import ModelFacts
from rlx.platform import PLATFORMS

GIB = 2**30
TRAINING_BYTES = 16
"""For each parameter: master weight, gradient and the two moments of AdamW, float32 each."""
REFERENCE_BYTES = 4
POLICY_PROCESS_BYTES = int(0.25 * GIB)
"""Unshared memory of a process that has imported torch and transformers (CPU builds; 0.39 GiB with what is shared)."""
VLLM_PROCESS_BYTES = int(0.38 * GIB)
"""The same after importing vLLM (0.56 GiB with what is shared)."""
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
KV_SPACE = "VLLM_CPU_KVCACHE_SPACE"


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes over all processes of the run on this machine."""

    policy: int
    reference: int
    engine_weights: int
    engine_cache: int
    processes: int

    @property
    def total(self) -> int:
        return self.policy + self.reference + self.engine_weights + self.engine_cache + self.processes

    def lines(self) -> list[tuple[str, int]]:
        """What each part is called, and its bytes; parts of 0 left out."""
        parts = {
            "policy: weights, gradients, Adam": self.policy,
            "frozen reference": self.reference,
            "engines: weights": self.engine_weights,
            "engines: key-value cache": self.engine_cache,
            "processes and their libraries": self.processes,
        }
        return [(name, size) for name, size in parts.items() if size]


def plan_memory(config: Config, facts: ModelFacts, *, rollouts: bool, needs_reference: bool) -> MemoryPlan | None:
    """None where it can't be told: weights that are not here yet, or a device with memory of its own."""
    if facts.parameters is None or not PLATFORMS[config.run.device].host_memory:
        return None
    parallel, rollout = config.policy.parallel, config.rollout
    engines = rollout.replicas if rollouts else 0
    item = ITEM_BYTES[rollout.dtype or config.policy.dtype]
    copies = parallel.dp_replicate * facts.parameters
    return MemoryPlan(
        policy=TRAINING_BYTES * copies,
        reference=REFERENCE_BYTES * copies if needs_reference else 0,
        engine_weights=engines * item * facts.parameters,
        engine_cache=engines * rollout.tensor_parallel * _cache_bytes(config),
        processes=parallel.world_size * POLICY_PROCESS_BYTES
        + engines * (1 + rollout.tensor_parallel) * VLLM_PROCESS_BYTES,
    )


def _cache_bytes(config: Config) -> int:
    given = config.rollout.vllm.get("kv_cache_memory_bytes")
    if isinstance(given, int):
        return given
    environment = {**PLATFORMS[config.run.device].engine_env, **config.rollout.env}
    return int(float(environment.get(KV_SPACE, 0)) * GIB)


def check_memory(plan: MemoryPlan, available: int) -> None:
    """Raises UsageError where the run can't fit."""
    if plan.total > available:
        parts = "\n".join(f"  {shown(size):>11}  {name}" for name, size in plan.lines())
        raise UsageError(
            f"Too little memory: the run needs at least {shown(plan.total)} and {shown(available)} are available.\n"
            f"{parts}\n"
            f"Use a smaller model, fewer replicas or dp_replicate, or less {KV_SPACE} in [rollout] env."
        )


def shown(size: int) -> str:
    if size < 2**20:
        return "under 1 MiB"
    return f"{size / GIB:.2f} GiB" if size >= GIB // 10 else f"{size / 2**20:.0f} MiB"


def available_memory() -> int:
    """Bytes that new processes can have without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)
