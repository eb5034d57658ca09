"""rlx: post-train language models with reinforcement learning.

Importing this package is free: every public name is loaded when it is first used, so neither torch, vLLM nor
transformers is imported by `import rlx`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "BaseModel": "rlx.api.base_model",
    "Config": "rlx.config.schema",
    "DataPacker": "rlx.api.packer",
    "DecoderOnlyLLMDataPacker": "rlx.api.packer",
    "Episode": "rlx.api.types",
    "ModelPlugin": "rlx.api.model",
    "ModelRegistry": "rlx.api.model_registry",
    "Segment": "rlx.api.types",
    "Trajectory": "rlx.api.types",
    "WeightMapper": "rlx.api.model",
    "group_reward": "rlx.api.reward",
    "hookimpl": "rlx.api.hookspecs",
    "launch_worker": "rlx.launch.launch_worker",
}

__all__ = ["__version__", *_WHERE]  # noqa: PLE0604 - the keys are strings

if TYPE_CHECKING:
    from rlx.api.base_model import BaseModel as BaseModel
    from rlx.api.hookspecs import hookimpl as hookimpl
    from rlx.api.model import ModelPlugin as ModelPlugin
    from rlx.api.model import WeightMapper as WeightMapper
    from rlx.api.model_registry import ModelRegistry as ModelRegistry
    from rlx.api.packer import DataPacker as DataPacker
    from rlx.api.packer import DecoderOnlyLLMDataPacker as DecoderOnlyLLMDataPacker
    from rlx.api.reward import group_reward as group_reward
    from rlx.api.types import Episode as Episode
    from rlx.api.types import Segment as Segment
    from rlx.api.types import Trajectory as Trajectory
    from rlx.config.schema import Config as Config
    from rlx.launch.launch_worker import launch_worker as launch_worker


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'rlx' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
