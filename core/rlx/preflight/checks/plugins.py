"""Resolve and import the plugins that a config names, and check their `args`.

Rule: every name in the config is resolved before the first component is imported. (Hooks plugins are imported earlier,
since they may add components.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlx.algorithms.base import Algorithm
from rlx.algorithms.make import make_algorithm
from rlx.boot import PluginRecord
from rlx.config.schema import Config
from rlx.config.sections.base import Section
from rlx.config.sections.data import DatasetConfig, PackerConfig, RewardConfig
from rlx.datasets.open import check_dataset_args
from rlx.episodes import Episode, Reward
from rlx.errors import ConfigError, PluginError, attribute
from rlx.models.select import DEFAULT_MODEL_PLUGIN, model_plugin
from rlx.plugins.catalog import SINGULAR, Catalog, discover
from rlx.plugins.hooks import Hooks
from rlx.plugins.load import load
from rlx.plugins.records import owner
from rlx.plugins.registry import Registry, model_packer_name
from rlx.plugins.resolve import hidden_note, resolve
from rlx.plugins.session import Plugins, open_hooks, resolve_component
from rlx.preflight.checks.problems import Problems
from rlx.rewards.bound import check_reward_args
from rlx.script.plugins import ScriptPlugins
from rlx.script.runner import Script

_PROBED_GROUP = 64
"""Largest group that an algorithm's advantages are tried with."""


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
    def open(cls, config: Config, base_dir: Path, problems: Problems, script: Script | None = None) -> Sources | None:
        """Read the metadata of installed plugins, and import the enabled hooks plugins, which may add components.

        Returns None, and leaves a problem, if a hooks plugin can't be used.
        """
        catalog, given = discover(), ScriptPlugins(script, config) if script else None
        records = []
        for name in config.plugins.names:
            with problems.collecting("[plugins] enable"):
                found = given.record("hooks", name) if given else None
                records.append(found or resolve("hooks", name, catalog, base_dir))
                if note := hidden_note(records[-1], catalog):
                    problems.note(note)
        if len(records) < len(config.plugins.names):
            return None
        opened = problems.attempt(open_hooks, records, config.plugins, given)
        return None if opened is None else cls(catalog, opened[1], opened[0], records, base_dir, given)

    def resolve(self, kind: str, name: str) -> PluginRecord:
        """Return the record of the component that the config calls `name`; import nothing."""
        if self.script is None or (given := self.script.record(kind, name)) is None:
            return resolve_component(kind, name, self.catalog, self.registry, self.base_dir)
        installed = self.catalog.named(kind, name)
        if kind == "models" and len(installed) == 1:
            # A script may register the very plugin that is installed under that name.
            other = load(resolve(kind, name, self.catalog, self.base_dir))
            if other == self.script.component(given):
                return given
        if installed:
            raise PluginError(
                f"{SINGULAR[kind]} {name!r} is offered by {installed[0].qualified} and given by {owner(given)}.\n"
                "Call it something else in the config or in the script; nothing overrides silently."
            )
        return given

    def open_plugins(self, config: Config, model_type: str | None, problems: Problems) -> tuple[Config, Plugins]:
        """Resolve every plugin of the run, once. A name that can't be resolved is a problem with its table.

        model_type: by the model's config.json; None if that can't be read.

        Returns the config with `model.plugin` and the packers filled in, and the plugins that were found. The default
        packer is the model plugin's own, if it has one, so the model plugin is imported here; it is the first import.
        """
        model = config.model.plugin or None
        if model is None and model_type is not None:
            given = self.script.names("models") if self.script else []
            known = {*self.catalog.names("models"), *self.registry.names("models"), *given}
            model = model_type if model_type in known else DEFAULT_MODEL_PLUGIN
        records: dict[tuple[str, str], PluginRecord | None] = {}
        self._resolve_all(config, model, records, problems)
        if model is not None and (record := records["models", model]) is not None:
            found = problems.attempt(model_plugin, self._plugins([record]))
            if found is not None:
                packer = self._packer_of(record) if found.packer is not None else None
                config = _with_defaults(config, model, packer)
                self._resolve_all(config, model, records, problems)
        named = _component_names(config, model)
        return config, self._plugins([record for key in named if (record := records[key]) is not None])

    def _resolve_all(
        self,
        config: Config,
        model: str | None,
        records: dict[tuple[str, str], PluginRecord | None],
        problems: Problems,
    ) -> None:
        """Fill `records` with each component that the config names; None for one that can't be found."""
        for (kind, name), places in _component_names(config, model).items():
            if (kind, name) not in records:
                records[kind, name] = None
                with problems.collecting(" and ".join(places)):
                    record = records[kind, name] = self.resolve(kind, name)
                    if note := hidden_note(record, self.catalog):
                        problems.note(note)

    def model(self, config: Config) -> Plugins:
        """Return the model plugin of a resolved config, alone. Raises PluginError if it isn't found."""
        assert config.model.plugin is not None, "a resolved config names it"
        return self._plugins([self.resolve("models", config.model.plugin)])

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


def _component_names(config: Config, model: str | None) -> dict[tuple[str, str], list[str]]:
    """Return kind and name of each component that the config names, and the model plugin's, each with its places."""
    found: dict[tuple[str, str], list[str]] = {}
    for kind, name, place in _named(config, model):
        found.setdefault((kind, name), []).append(place)
    return found


def _named(config: Config, model: str | None) -> Iterator[tuple[str, str, str]]:
    """Yield kind, name and place in the config."""
    yield "algorithms", config.algorithm.name, "[algorithm] name"
    yield "datasets", config.dataset.name, "[dataset] name"
    rewards = placed_rewards(config)
    for placed in rewards:
        if placed.table != "[[eval.rewards]]":
            yield "rewards", placed.reward.name, f"{placed.place}, name"
    if config.packer.chosen:
        yield "packers", config.packer.name, "[packer] name"
    if config.eval is not None and config.eval.packer is not None and config.eval.packer.chosen:
        yield "packers", config.eval.packer.name, "[eval.packer] name"
    if model is not None:
        yield "models", model, "[model] plugin"
    if config.eval is not None:
        yield "datasets", config.eval.dataset.name, "[eval.dataset] name"
        for placed in rewards:
            if placed.table == "[[eval.rewards]]":
                yield "rewards", placed.reward.name, f"{placed.place}, name"
    yield "launchers", config.run.launcher, "[run] launcher"
    for logger in config.run.loggers:
        yield "loggers", logger, "[run] loggers"


def open_algorithm(config: Config, plugins: Plugins, problems: Problems) -> tuple[Algorithm | None, bool | None]:
    """Return the algorithm, and whether it learns from samples (RL); None for what can't be found out."""
    name = config.algorithm.name
    if not plugins.has("algorithms", name):
        return None, None
    with problems.collecting("[algorithm]"):
        algorithm = make_algorithm(plugins, config)
        return algorithm, algorithm.rollouts
    # Its class may say so although it can't be made, so that the checks that only need to know this can be made.
    target = problems.attempt(plugins.load, "algorithms", name)
    rollouts = getattr(target, "rollouts", None)
    return None, rollouts if isinstance(rollouts, bool) else None


def check_learning(algorithm: Algorithm, config: Config, plugins: Plugins) -> None:
    """Raise ConfigError if a group of this size can't be informative: nothing would be learnt."""
    if not algorithm.rollouts:
        return
    owner, size = plugins.owner("algorithms", config.algorithm.name), config.algorithm.group_size
    rewards = [1.0, *[0.0] * (min(size, _PROBED_GROUP) - 1)]
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


@dataclass(frozen=True)
class PlacedReward:
    """A reward, with its place in the config."""

    table: str
    """`[[rewards]]`, `[[filter_rewards]]` or `[[eval.rewards]]`."""
    number: int
    """From 1."""
    reward: RewardConfig

    @property
    def place(self) -> str:
        return f"{self.table} number {self.number}"


def placed_rewards(config: Config) -> list[PlacedReward]:
    """Return every reward that the config names."""
    tables = {
        "[[rewards]]": config.rewards,
        "[[filter_rewards]]": config.filter_rewards,
        "[[eval.rewards]]": (config.eval.rewards if config.eval is not None else None) or [],
    }
    return [
        PlacedReward(table, number, reward)
        for table, rewards in tables.items()
        for number, reward in enumerate(rewards, 1)
    ]


def check_components(config: Config, plugins: Plugins, problems: Problems) -> list[PlacedReward]:
    """Import the components that no other check imports, and check their args. Returns the rewards that passed."""
    datasets = {"[dataset] args": config.dataset}
    if config.eval is not None:
        datasets["[eval.dataset] args"] = config.eval.dataset
    for where, dataset in datasets.items():
        if plugins.has("datasets", dataset.name):
            problems.passes_at(where.removesuffix(" args"), check_dataset, dataset, plugins, where)
    for kind in ("launchers", "loggers"):
        for name in plugins.names(kind):
            with problems.collecting(f"[run] {kind.removesuffix('s') if kind == 'launchers' else kind}"):
                if not callable(plugins.load(kind, name)):
                    raise PluginError(f"{plugins.owner(kind, name)} isn't a class.")
    return [
        placed
        for placed in placed_rewards(config)
        if plugins.has("rewards", placed.reward.name)
        and problems.passes_at(placed.place, check_reward, placed.reward, plugins, f"{placed.place}, args")
    ]


def check_dataset(dataset: DatasetConfig, plugins: Plugins, where: str) -> None:
    """Import a dataset and check its args, which are at `where` in the config. Raises PluginError and ConfigError."""
    source = plugins.load("datasets", dataset.name)
    check_dataset_args(source, dataset.args, owner=plugins.owner("datasets", dataset.name), where=where)


def check_reward(reward: RewardConfig, plugins: Plugins, where: str) -> None:
    """Import a reward and check its args, which are at `where` in the config. Raises PluginError and ConfigError."""
    target = plugins.load("rewards", reward.name)
    check_reward_args(target, reward.args, owner=plugins.owner("rewards", reward.name), where=where)
