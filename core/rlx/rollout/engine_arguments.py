"""Derives vLLM's engine arguments and environment variables from the config.

Rule: `[rollout.vllm]` overrides rlx's defaults, but not the arguments that rlx depends on.
"""

from __future__ import annotations

from rlx.config.schema import Config
from rlx.datasets.order import derive_seed
from rlx.platform import PLATFORMS
from rlx.sync.vllm_engine import BACKEND


def engine_environment(config: Config, index: int) -> dict[str, str]:
    """Return the environment that replica `index` needs before it imports vLLM.

    Its devices follow those of the policy's ranks and of the replicas with a lower index.
    """
    platform, width = PLATFORMS[config.run.device], config.rollout.tensor_parallel
    first = config.policy.parallel.world_size + index * width
    defaults = dict(platform.engine_env)
    if "kv_cache_memory_bytes" in config.rollout.vllm:
        # The variable, if it is set, overrides the argument without a word.
        defaults.pop("VLLM_CPU_KVCACHE_SPACE", None)
    return {**defaults, **platform.visible_devices(range(first, first + width)), **config.rollout.env}


def engine_arguments(
    config: Config, index: int, *, attempt: int = 1, resumed_from: str | None = None
) -> dict[str, object]:
    """Return vLLM's AsyncEngineArgs for replica `index`. The preflight has checked `[rollout.vllm]`.

    Every engine draws noise of its own: those of two replicas, of a replica's attempts, and of a run and its resume.
    """
    rollout = config.rollout
    defaults: dict[str, object] = {
        "max_model_len": -1,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        **PLATFORMS[config.run.device].engine_args,
    }
    required: dict[str, object] = {
        "model": config.model.path,
        "revision": config.model.revision,
        "tokenizer": config.model.tokenizer,
        "trust_remote_code": config.model.trust_remote_code,
        "dtype": rollout.dtype or config.policy.dtype,
        "tensor_parallel_size": rollout.tensor_parallel,
        "seed": derive_seed(config.run.seed, "engine", index, attempt, resumed_from),
        "logprobs_mode": "processed_logprobs",
        "worker_extension_cls": "rlx.sync.worker_extension.WorkerExtension",
        "weight_transfer_config": {"backend": BACKEND},
    }
    return {**defaults, **rollout.vllm, **required}
