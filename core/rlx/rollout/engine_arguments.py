"""From a config to vLLM's engine arguments and environment.

The rule of this part: `[rollout.vllm]` is the user's word and wins, except over what rlx itself cannot work without.
"""

from __future__ import annotations

from typing import Any

from rlx.config.schema import Config
from rlx.platform import PLATFORMS
from rlx.sync.vllm_engine import BACKEND


def engine_environment(config: Config, index: int) -> dict[str, str]:
    """What replica `index` has to set before it imports vLLM: its devices are those after the policy's ranks."""
    platform, width = PLATFORMS[config.run.device], config.rollout.tensor_parallel
    first = config.policy.parallel.world_size + index * width
    return {**platform.engine_env, **platform.visible_devices(range(first, first + width)), **config.rollout.env}


def engine_arguments(config: Config, index: int) -> dict[str, Any]:
    """AsyncEngineArgs of replica `index`; that `[rollout.vllm]` holds vLLM's names was checked before the start."""
    rollout = config.rollout
    defaults = {
        "max_model_len": -1,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        **PLATFORMS[config.run.device].engine_args,
    }
    fixed = {
        "model": config.model.path,
        "revision": config.model.revision,
        "tokenizer": config.model.tokenizer,
        "trust_remote_code": config.model.trust_remote_code,
        "dtype": rollout.dtype or config.policy.dtype,
        "tensor_parallel_size": rollout.tensor_parallel,
        "seed": (config.run.seed + index) % 2**31,
        "logprobs_mode": "processed_logprobs",
        "worker_extension_cls": "rlx.sync.worker_extension.WorkerExtension",
        "weight_transfer_config": {"backend": BACKEND},
    }
    return {**defaults, **rollout.vllm, **fixed}
