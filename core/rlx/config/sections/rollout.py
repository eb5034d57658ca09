"""`[rollout]`: the vLLM engines that sample, and the processes that score."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from rlx.config.sections.base import Section


class RolloutConfig(Section):
    """The vLLM engines that sample, and the processes that score."""

    replicas: int = Field(1, ge=1)
    """Engines."""
    tensor_parallel: int = Field(1, ge=1)
    """Workers that share one engine's model."""
    max_tokens: int = Field(512, ge=1)
    """Longest completion, in tokens."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature; the trainer's log-probabilities use it too."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Dtype that the engine computes in. Default: the policy's compute dtype."""
    reward_workers: int = Field(2, ge=1)
    """Processes, for each replica, in which rewards run. One slow call never holds up others as long as there are more
    processes than slow calls."""
    restarts: int = Field(3, ge=0)
    """How often in a run an engine that died is restarted; its groups are sampled again. A death during a weight sync
    ends the run regardless."""
    env: dict[str, str] = {}
    """Environment variables for the engine's processes, over rlx's defaults for the device."""
    vllm: dict[str, Any] = {}
    """Any vLLM engine argument, by its own name; names are checked."""
