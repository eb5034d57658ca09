"""rlx: post-train language models with reinforcement learning.

Everything that a plugin implements, raises or recombines is importable from here: contracts (`Algorithm`, `DataPacker`,
`ModelPlugin`, `Logger`, `Launcher`), decorators (`hookimpl`, `group_reward`), the pieces of algorithms, data types and
errors. Other modules are rlx's own and may change.

Importing this package is cheap: a public name is loaded when it is first used, so `import rlx` imports neither torch,
vLLM nor transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlx.lazy import lazy_exports as lazy_exports
from rlx.names import VERSION

__version__ = VERSION

_WHERE = {
    "Algorithm": "rlx.algorithms.base",
    "Attention": "rlx.models.base_model",
    "BaseModel": "rlx.models.base_model",
    "CausalLMOutput": "rlx.models.base_model",
    "Config": "rlx.config.schema",
    "ConfigError": "rlx.errors",
    "DataPacker": "rlx.packers.base",
    "Dataset": "rlx.datasets.base",
    "DatasetError": "rlx.errors",
    "DecoderOnlyLLMDataPacker": "rlx.packers.base",
    "Episode": "rlx.episodes",
    "GRPO": "rlx.algorithms.grpo",
    "HookError": "rlx.errors",
    "Launcher": "rlx.launchers.base",
    "LiveLogger": "rlx.loggers.base",
    "Logger": "rlx.loggers.base",
    "ModelPlugin": "rlx.models.plugin",
    "ModelRegistry": "rlx.models.registry",
    "Packer": "rlx.packers.protocol",
    "PluginError": "rlx.errors",
    "ProcessHandle": "rlx.launchers.base",
    "ProcessSpec": "rlx.launchers.base",
    "Registry": "rlx.plugins.registry",
    "RevisingLogger": "rlx.loggers.base",
    "Reward": "rlx.episodes",
    "RewardError": "rlx.errors",
    "RlxError": "rlx.errors",
    "RolloutOutput": "rlx.packers.base",
    "RunError": "rlx.errors",
    "RunStatus": "rlx.loggers.base",
    "SFT": "rlx.algorithms.sft",
    "Sample": "rlx.loggers.base",
    "SampleLogger": "rlx.loggers.base",
    "Segment": "rlx.episodes",
    "StepTotals": "rlx.algorithms.base",
    "TokenBatch": "rlx.algorithms.base",
    "Tokenizer": "rlx.packers.tokenizer",
    "Trajectory": "rlx.episodes",
    "UsageError": "rlx.errors",
    "VersionSpan": "rlx.episodes",
    "WeightMapper": "rlx.models.plugin",
    "causal_attention": "rlx.models.base_model",
    "clipped_surrogate": "rlx.algorithms.losses",
    "did_you_mean": "rlx.errors",
    "group_advantages": "rlx.algorithms.losses",
    "group_reward": "rlx.rewards.base",
    "hookimpl": "rlx.plugins.hookspecs",
    "k3": "rlx.algorithms.losses",
    "keep_block": "rlx.models.tensor_parallel",
    "launch_worker": "rlx.script.launch_worker",
    "negative_log_likelihood": "rlx.algorithms.losses",
    "single_turn": "rlx.episodes",
    "split_block": "rlx.models.tensor_parallel",
    "token_mean": "rlx.algorithms.losses",
    "truncated_importance": "rlx.algorithms.losses",
}

__all__ = ["__version__", "lazy_exports", *_WHERE]  # noqa: PLE0604 - the keys are strings

if TYPE_CHECKING:
    from rlx.algorithms.base import Algorithm as Algorithm
    from rlx.algorithms.base import StepTotals as StepTotals
    from rlx.algorithms.base import TokenBatch as TokenBatch
    from rlx.algorithms.grpo import GRPO as GRPO
    from rlx.algorithms.losses import clipped_surrogate as clipped_surrogate
    from rlx.algorithms.losses import group_advantages as group_advantages
    from rlx.algorithms.losses import k3 as k3
    from rlx.algorithms.losses import negative_log_likelihood as negative_log_likelihood
    from rlx.algorithms.losses import token_mean as token_mean
    from rlx.algorithms.losses import truncated_importance as truncated_importance
    from rlx.algorithms.sft import SFT as SFT
    from rlx.config.schema import Config as Config
    from rlx.datasets.base import Dataset as Dataset
    from rlx.episodes import Episode as Episode
    from rlx.episodes import Reward as Reward
    from rlx.episodes import Segment as Segment
    from rlx.episodes import Trajectory as Trajectory
    from rlx.episodes import VersionSpan as VersionSpan
    from rlx.episodes import single_turn as single_turn
    from rlx.errors import ConfigError as ConfigError
    from rlx.errors import DatasetError as DatasetError
    from rlx.errors import HookError as HookError
    from rlx.errors import PluginError as PluginError
    from rlx.errors import RewardError as RewardError
    from rlx.errors import RlxError as RlxError
    from rlx.errors import RunError as RunError
    from rlx.errors import UsageError as UsageError
    from rlx.errors import did_you_mean as did_you_mean
    from rlx.launchers.base import Launcher as Launcher
    from rlx.launchers.base import ProcessHandle as ProcessHandle
    from rlx.launchers.base import ProcessSpec as ProcessSpec
    from rlx.loggers.base import LiveLogger as LiveLogger
    from rlx.loggers.base import Logger as Logger
    from rlx.loggers.base import RevisingLogger as RevisingLogger
    from rlx.loggers.base import RunStatus as RunStatus
    from rlx.loggers.base import Sample as Sample
    from rlx.loggers.base import SampleLogger as SampleLogger
    from rlx.models.base_model import Attention as Attention
    from rlx.models.base_model import BaseModel as BaseModel
    from rlx.models.base_model import CausalLMOutput as CausalLMOutput
    from rlx.models.base_model import causal_attention as causal_attention
    from rlx.models.plugin import ModelPlugin as ModelPlugin
    from rlx.models.plugin import WeightMapper as WeightMapper
    from rlx.models.registry import ModelRegistry as ModelRegistry
    from rlx.models.tensor_parallel import keep_block as keep_block
    from rlx.models.tensor_parallel import split_block as split_block
    from rlx.packers.base import DataPacker as DataPacker
    from rlx.packers.base import DecoderOnlyLLMDataPacker as DecoderOnlyLLMDataPacker
    from rlx.packers.base import RolloutOutput as RolloutOutput
    from rlx.packers.protocol import Packer as Packer
    from rlx.packers.tokenizer import Tokenizer as Tokenizer
    from rlx.plugins.hookspecs import hookimpl as hookimpl
    from rlx.plugins.registry import Registry as Registry
    from rlx.rewards.base import group_reward as group_reward
    from rlx.script.launch_worker import launch_worker as launch_worker
else:
    __getattr__, __dir__ = lazy_exports(__name__, _WHERE)
