"""The plugins that a config names: resolved, imported, and their `args` checked, before anything is started.

Cheap before costly: every name is resolved before the first plugin is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlx.boot import PluginRecord
from rlx.config.schema import Config
from rlx.config.sections.data import DatasetConfig, PackerConfig, RewardConfig
from rlx.datasets.open import check_dataset_args
from rlx.episodes import Episode, Reward
from rlx.errors import ConfigError, PluginError, attribute
from rlx.models.select import DEFAULT_MODEL_PLUGIN, model_plugin
from rlx.plugins.catalog import Catalog, Entry, discover
from rlx.plugins.hooks import Hooks
from rlx.plugins.kinds import SINGULAR
from rlx.plugins.load import load
from rlx.plugins.records import owner
from rlx.plugins.registry import Registry, packer_name
from rlx.plugins.resolve import resolve
from rlx.plugins.session import Plugins, open_hooks, resolve_component
from rlx.rewards.bound import check_reward_args
from rlx.script.plugins import ScriptPlugins
from rlx.script.runner import Script


@dataclass(frozen=True)
class Sources:
    """Where names are looked up."""

    catalog: Catalog
    registry: Registry
    hooks: Hooks
    hook_records: Sequence[PluginRecord]
    base_dir: Path
    script: ScriptPlugins | None

    @classmethod
    def open(cls, config: Config, base_dir: Path, script: Script | None = None) -> Sources:
        """Reads the metadata of what is installed, and imports the enabled hooks plugins (they may add components)."""
        catalog, given = discover(), ScriptPlugins(script, config) if script else None
        records = [
            (given and given.record("hooks", name)) or resolve("hooks", name, catalog, base_dir)
            for name in config.plugins.names
        ]
        hooks, registry = open_hooks(records, config.plugins, given)
        return cls(catalog, registry, hooks, records, base_dir, given)

    def resolve(self, kind: str, name: str) -> PluginRecord:
        given = self.script.record(kind, name) if self.script else None
        if given is None:
            return resolve_component(kind, name, self.catalog, self.registry, self.base_dir)
        installed = self.catalog.named(kind, name)
        if installed and not self._same(given, installed):
            raise PluginError(
                f"{SINGULAR[kind]} {name!r} is offered by {installed[0].qualified} and given by {owner(given)}.\n"
                "Call it something else in the config or in the script; nothing overrides silently."
            )
        return given

    def _same(self, given: PluginRecord, installed: Sequence[Entry]) -> bool:
        """Whether a script registers the very model that is installed: it may do what a config could do without it."""
        if given.kind != "models" or len(installed) > 1 or self.script is None:
            return False
        return bool(load(resolve(given.kind, given.name, self.catalog, self.base_dir)) == self.script.component(given))

    def plugins(self, config: Config) -> Plugins:
        """Every plugin of the run."""
        wanted = dict.fromkeys(_named(config))  # a dataset may be both training and evaluation data
        components = [self.resolve(kind, name) for kind, name in wanted]
        return Plugins([*components, *self.hook_records], self.hooks, self.registry, self.script)

    def model_plugin(self, model_type: str) -> str:
        """The installed plugin that is keyed by the model's `model_type`, else `hf`."""
        given = self.script.names("models") if self.script else []
        known = {*self.catalog.names("models"), *self.registry.names("models"), *given}
        return model_type if model_type in known else DEFAULT_MODEL_PLUGIN

    def with_packers(self, config: Config, plugins: Plugins) -> Config:
        """`config` with the model plugin's own packer, if it brings one, wherever none is named."""
        assert config.model.plugin is not None
        own = model_plugin(plugins).packer is not None
        name = self._packer_of(config.model.plugin) if own else PackerConfig().name
        config = config.model_copy(update={"packer": config.packer.otherwise(name)})
        if config.eval is None or config.eval.packer is None:
            return config
        held_out = config.eval.model_copy(update={"packer": config.eval.packer.otherwise(name)})
        return config.model_copy(update={"eval": held_out})

    def _packer_of(self, model: str) -> str:
        """What every process understands as the packer of that model plugin."""
        word, record = packer_name(model), self.resolve("models", model)
        added = [*self.registry.names("packers"), *(self.script.names("packers") if self.script else [])]
        return packer_name(record.target) if record.dist and word not in added else word


def _named(config: Config) -> Iterator[tuple[str, str]]:
    yield "algorithms", config.algorithm.name
    yield "datasets", config.dataset.name
    for reward in (*config.rewards, *config.filter_rewards):
        yield "rewards", reward.name
    for packer in (config.packer, config.eval.packer if config.eval else None):
        if packer is not None and packer.chosen:
            yield "packers", packer.name
    assert config.model.plugin is not None
    yield "models", config.model.plugin
    if config.eval is not None:
        yield "datasets", config.eval.dataset.name
        for reward in config.eval.rewards or ():
            yield "rewards", reward.name
    yield "launchers", config.run.launcher
    for logger in config.run.loggers:
        yield "loggers", logger


def check_components(config: Config, plugins: Plugins) -> None:
    """Imports every component that has no check of its own elsewhere, and checks its args."""
    _check_dataset(config.dataset, plugins, "[dataset] args")
    _check_rewards(config.rewards, plugins, "[[rewards]]")
    _check_rewards(config.filter_rewards, plugins, "[[filter_rewards]]")
    if config.eval is not None:
        _check_dataset(config.eval.dataset, plugins, "[eval.dataset] args")
        _check_rewards(config.eval.rewards or [], plugins, "[[eval.rewards]]")
    for kind in ("launchers", "loggers"):
        for name in plugins.names(kind):
            if not callable(plugins.load(kind, name)):
                raise PluginError(f"{plugins.owner(kind, name)} is no class.")


def check_learns(algorithm: Any, config: Config, owner: str) -> None:
    """Raises ConfigError where a group of this size gets no advantage whatever its rewards are: nothing is learnt."""
    size = config.algorithm.group_size
    groups = [_group(number, size) for number in (0, 1)]
    with attribute(owner, "advantages"):
        advantages = algorithm.advantages(groups)
    if not any(value for group in advantages for value in group):
        raise ConfigError(
            f"[algorithm] group_size = {size}: {owner} gives such a group no advantage, whatever its rewards are. "
            "Choose at least 2."
        )


def _group(number: int, size: int) -> list[Episode]:
    """One completion of reward 1, the others 0."""
    rewards = [1.0, *[0.0] * (size - 1)]
    return [Episode(number, i, 0, [], rewards=[Reward("probe", value)]) for i, value in enumerate(rewards)]


def _check_dataset(dataset: DatasetConfig, plugins: Plugins, where: str) -> None:
    source = plugins.load("datasets", dataset.name)
    check_dataset_args(source, dataset.args, owner=plugins.owner("datasets", dataset.name), where=where)


def _check_rewards(rewards: Sequence[RewardConfig], plugins: Plugins, table: str) -> None:
    for number, reward in enumerate(rewards, 1):
        where = f"{table} number {number}, args"
        target = plugins.load("rewards", reward.name)
        check_reward_args(target, reward.args, owner=plugins.owner("rewards", reward.name), where=where)
