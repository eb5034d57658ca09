"""Resolve and import the plugins that a config names, and check their `args`.

Rule: every name in the config is resolved before the first component is imported. (Hooks plugins are imported earlier,
since they may add components.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlx.algorithms.base import Algorithm
from rlx.boot import PluginRecord
from rlx.config.rules import learning_contradictions
from rlx.config.schema import Config
from rlx.config.sections.base import Section
from rlx.config.sections.data import DatasetConfig, PackerConfig, RewardConfig
from rlx.datasets.open import check_dataset_args
from rlx.episodes import Episode, Reward
from rlx.errors import ConfigError, PluginError, attribute
from rlx.models.select import DEFAULT_MODEL_PLUGIN, model_plugin
from rlx.plugins.catalog import SINGULAR, Catalog, Entry, discover
from rlx.plugins.hooks import Hooks
from rlx.plugins.load import load
from rlx.plugins.records import owner
from rlx.plugins.registry import Registry, model_packer_name
from rlx.plugins.resolve import resolve
from rlx.plugins.session import Plugins, open_hooks, resolve_component
from rlx.rewards.bound import check_reward_args
from rlx.script.plugins import ScriptPlugins
from rlx.script.runner import Script


@dataclass(frozen=True)
class Sources:
    """The places where names are looked up: installed distributions, hooks plugins, and the launch script."""

    catalog: Catalog
    registry: Registry
    hooks: Hooks
    hook_records: Sequence[PluginRecord]
    base_dir: Path
    script: ScriptPlugins | None

    @classmethod
    def open(cls, config: Config, base_dir: Path, script: Script | None = None) -> Sources:
        """Read the metadata of installed plugins, and import the enabled hooks plugins, which may add components."""
        catalog, given = discover(), ScriptPlugins(script, config) if script else None
        records = [
            (given and given.record("hooks", name)) or resolve("hooks", name, catalog, base_dir)
            for name in config.plugins.names
        ]
        hooks, registry = open_hooks(records, config.plugins, given)
        return cls(catalog, registry, hooks, records, base_dir, given)

    def resolve(self, kind: str, name: str) -> PluginRecord:
        """Return the record of the component that the config calls `name`; import nothing."""
        given = self.script.record(kind, name) if self.script else None
        if given is None:
            return resolve_component(kind, name, self.catalog, self.registry, self.base_dir)
        installed = self.catalog.named(kind, name)
        if installed and not self._is_same_model(given, installed):
            raise PluginError(
                f"{SINGULAR[kind]} {name!r} is offered by {installed[0].qualified} and given by {owner(given)}.\n"
                "Call it something else in the config or in the script; nothing overrides silently."
            )
        return given

    def _is_same_model(self, given: PluginRecord, installed: Sequence[Entry]) -> bool:
        """Return whether the script registers the model plugin that is installed under that name, which is allowed."""
        if given.kind != "models" or len(installed) > 1 or self.script is None:
            return False
        return bool(load(resolve(given.kind, given.name, self.catalog, self.base_dir)) == self.script.component(given))

    def open_plugins(self, config: Config, model_type: str) -> tuple[Config, Plugins]:
        """Resolve every plugin of the run, once.

        Returns the config with `model.plugin` and the packers filled in, and the plugins. The default packer is the
        model plugin's own, if it has one, so the model plugin is imported here; it is the first import.
        """
        model = config.model.plugin
        if not model:
            # The plugin that is keyed by the model's type, if one is, else that of transformers.
            given = self.script.names("models") if self.script else []
            known = {*self.catalog.names("models"), *self.registry.names("models"), *given}
            model = model_type if model_type in known else DEFAULT_MODEL_PLUGIN
        records = {(kind, name): self.resolve(kind, name) for kind, name in _component_names(config, model)}
        own = model_plugin(self._plugins([records["models", model]])).packer is not None
        config = _with_defaults(config, model, self._packer_of(records["models", model]) if own else None)
        names = dict.fromkeys(_component_names(config, model))  # a dataset may be both training and evaluation data
        return config, self._plugins([records.get(key) or self.resolve(*key) for key in names])

    def _plugins(self, components: Sequence[PluginRecord]) -> Plugins:
        return Plugins([*components, *self.hook_records], self.hooks, self.registry, self.script)

    def _packer_of(self, model: PluginRecord) -> str:
        """Return the name by which every process finds the packer of that model plugin."""
        name = model_packer_name(model.name)
        added = [*self.registry.names("packers"), *(self.script.names("packers") if self.script else [])]
        return model_packer_name(model.target) if model.dist and name not in added else name


def _with_defaults(config: Config, model: str, packer: str | None) -> Config:
    """Return the config with the model plugin and, wherever no packer is named, the packer."""
    packer = packer or PackerConfig().name
    changes: dict[str, Section] = {
        "model": config.model.model_copy(update={"plugin": model}),
        "packer": config.packer.otherwise(packer),
    }
    if config.eval is not None and config.eval.packer is not None:
        changes["eval"] = config.eval.model_copy(update={"packer": config.eval.packer.otherwise(packer)})
    return config.model_copy(update=changes)


def _component_names(config: Config, model: str) -> Iterator[tuple[str, str]]:
    """Yield kind and name of each component that the config names, and the model plugin's."""
    yield "algorithms", config.algorithm.name
    yield "datasets", config.dataset.name
    for reward in (*config.rewards, *config.filter_rewards):
        yield "rewards", reward.name
    for packer in (config.packer, config.eval.packer if config.eval else None):
        if packer is not None and packer.chosen:
            yield "packers", packer.name
    yield "models", model
    if config.eval is not None:
        yield "datasets", config.eval.dataset.name
        for reward in config.eval.rewards or ():
            yield "rewards", reward.name
    yield "launchers", config.run.launcher
    for logger in config.run.loggers:
        yield "loggers", logger


def check_learning(algorithm: Algorithm, config: Config, plugins: Plugins) -> None:
    """Check the config's rules for RL or SFT, and that a group of this size can be informative.

    Raises ConfigError if a group's advantages are all 0 although its rewards differ: nothing would be learnt.
    """
    if found := learning_contradictions(config, rollouts=algorithm.rollouts):
        raise ConfigError("\n".join(found))
    if not algorithm.rollouts:
        return
    owner, size = plugins.owner("algorithms", config.algorithm.name), config.algorithm.group_size
    rewards = [1.0, *[0.0] * (size - 1)]
    groups = [
        [Episode(group, i, 0, [], rewards=[Reward("probe", value)]) for i, value in enumerate(rewards)]
        for group in (0, 1)
    ]
    with attribute(owner, "advantages"):
        advantages = algorithm.advantages(groups)
    if not any(value for group in advantages for value in group):
        raise ConfigError(
            f"[algorithm] group_size = {size}: {owner} gives such a group no advantage, whatever its rewards are. "
            "Choose at least 2."
        )


def check_components(config: Config, plugins: Plugins) -> None:
    """Import the components that no other check imports, and check their args."""
    _check_dataset(config.dataset, plugins, "[dataset] args")
    _check_rewards(config.rewards, plugins, "[[rewards]]")
    _check_rewards(config.filter_rewards, plugins, "[[filter_rewards]]")
    if config.eval is not None:
        _check_dataset(config.eval.dataset, plugins, "[eval.dataset] args")
        _check_rewards(config.eval.rewards or [], plugins, "[[eval.rewards]]")
    for kind in ("launchers", "loggers"):
        for name in plugins.names(kind):
            if not callable(plugins.load(kind, name)):
                raise PluginError(f"{plugins.owner(kind, name)} isn't a class.")


def _check_dataset(dataset: DatasetConfig, plugins: Plugins, where: str) -> None:
    source = plugins.load("datasets", dataset.name)
    check_dataset_args(source, dataset.args, owner=plugins.owner("datasets", dataset.name), where=where)


def _check_rewards(rewards: Sequence[RewardConfig], plugins: Plugins, table: str) -> None:
    for number, reward in enumerate(rewards, 1):
        where = f"{table} number {number}, args"
        target = plugins.load("rewards", reward.name)
        check_reward_args(target, reward.args, owner=plugins.owner("rewards", reward.name), where=where)
