"""From a config to vLLM's engine arguments and environment.

The rule of this part: `[rollout.vllm]` is the user's word and wins, except over what rlx itself cannot work without.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from rlx.config.schema import Config
from rlx.errors import ConfigError, did_you_mean
from rlx.platform import PLATFORMS
from rlx.sync.vllm_engine import BACKEND

RESERVED = {
    "model": "[model] path",
    "revision": "[model] revision",
    "tokenizer": "[model] tokenizer",
    "trust_remote_code": "[model] trust_remote_code",
    "dtype": "[rollout] dtype",
    "tensor_parallel_size": "[rollout] tensor_parallel",
    "seed": "[run] seed",
    "logprobs_mode": "nothing: logprobs are those of the distribution that was sampled from",
    "worker_extension_cls": "nothing: rlx needs its own",
    "weight_transfer_config": "nothing: rlx needs its own",
}
"""Arguments that have a place of their own in the config, or none."""


def engine_environment(config: Config) -> dict[str, str]:
    """To be set before vLLM is imported."""
    return {**PLATFORMS[config.run.device].engine_env, **config.rollout.env}


def engine_arguments(config: Config, index: int) -> dict[str, Any]:
    """AsyncEngineArgs of replica `index`. Raises ConfigError where `[rollout.vllm]` names what vLLM does not have."""
    rollout = config.rollout
    check_names(rollout.vllm)
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


def check_names(arguments: dict[str, Any]) -> None:
    """Raises ConfigError for names that are not vLLM's, or not the user's to set."""
    for name in arguments:
        if name in RESERVED:
            raise ConfigError(f"[rollout.vllm] {name}: rlx sets it; use {RESERVED[name]}")
    if not arguments:
        return
    from vllm.engine.arg_utils import AsyncEngineArgs

    known = {field.name for field in fields(AsyncEngineArgs)}
    for name in arguments:
        if name not in known:
            raise ConfigError(f"[rollout.vllm] {name}: vLLM has no such engine argument.{did_you_mean(name, known)}")
