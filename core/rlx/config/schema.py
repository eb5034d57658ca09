"""The whole config: one field for each table of the file."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from rlx.config.sections.algorithm import AlgorithmConfig
from rlx.config.sections.async_ import AsyncConfig
from rlx.config.sections.base import Section
from rlx.config.sections.checkpoint import CheckpointConfig
from rlx.config.sections.cosmos import CosmosTrain
from rlx.config.sections.data import DatasetConfig, PackerConfig, RewardConfig
from rlx.config.sections.eval import EvalConfig
from rlx.config.sections.model import ModelConfig
from rlx.config.sections.plugins import PluginsConfig
from rlx.config.sections.policy import PolicyConfig
from rlx.config.sections.rollout import RolloutConfig
from rlx.config.sections.run import RunConfig
from rlx.config.sections.sync import SyncConfig


class Config(Section):
    """The content of a config file, as `rlx run --config x.toml` reads it."""

    run: RunConfig = RunConfig()
    model: ModelConfig
    dataset: DatasetConfig
    packer: PackerConfig = PackerConfig()
    rewards: list[RewardConfig] = []
    filter_rewards: list[RewardConfig] = []
    """Rewards that decide whether a group is informative: whether the sum of their weight * value differs between its
    completions. Default: the total reward. A filter that is also a reward (same `name`, `args`, `group`) is called
    once, with the reward's `timeout_seconds` and `on_error`."""
    algorithm: AlgorithmConfig = AlgorithmConfig()
    rollout: RolloutConfig = RolloutConfig()
    policy: PolicyConfig = PolicyConfig()
    asynchrony: AsyncConfig = Field(AsyncConfig(), alias="async")
    sync: SyncConfig = SyncConfig()
    eval: EvalConfig | None = None
    checkpoint: CheckpointConfig = CheckpointConfig()
    plugins: PluginsConfig = PluginsConfig()
    meta: dict[str, Any] = {}
    """Free-form, for your own tools. Nothing else is."""

    @property
    def train(self) -> CosmosTrain:
        """`config.train.train_policy.dataset.name`, as datasets written for cosmos-rl read it."""
        return CosmosTrain.of(self.dataset)
