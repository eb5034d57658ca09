"""`[rollout]`: the vLLM engines that sample, and the processes that score."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import Field

from rlx.config.sections.base import Section, Tokens

MIN_TEMPERATURE = 0.01
"""vLLM raises a lower temperature to this one, which the trainer's log-probabilities would not know of."""
MAX_TEMPERATURE = 10.0


class RolloutConfig(Section):
    """The vLLM engines that sample, and the processes that score."""

    REASONS: ClassVar[Mapping[tuple[str, str], str]] = MappingProxyType(
        {
            ("temperature", "ge"): "vLLM would sample at 0.01, and the trainer would compute with this value",
            ("temperature", "le"): "completions would be random tokens",
        }
    )

    replicas: int = Field(1, ge=1, le=4096)
    """Engines."""
    tensor_parallel: int = Field(1, ge=1, le=4096)
    """Workers that share one engine's model."""
    max_tokens: Tokens = 512
    """Longest completion, in tokens."""
    temperature: float = Field(1.0, ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE)
    """Sampling temperature; the trainer's log-probabilities use it too."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Dtype that the engine computes in. Default: the policy's compute dtype."""
    reward_workers: int = Field(2, ge=1, le=1024)
    """Processes, for each replica, in which rewards run. One slow call never holds up others as long as there are more
    processes than slow calls."""
    restarts: int = Field(3, ge=0, le=1_000_000)
    """How often in a run an engine that died, or that did not start again, is restarted; its groups are sampled
    again, and the other engines go on."""
    env: dict[str, str] = {}
    """Environment variables for the engine's processes, over rlx's defaults for the device."""
    vllm: dict[str, Any] = {}
    """Any vLLM engine argument, by its own name; names are checked."""
