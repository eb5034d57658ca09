"""The plugins of one process of a run: `Plugins.open(boot)`.

Opening compares each record of the launcher with the environment of this process, so that no process trains or scores
with code other than the launcher's; then it registers the enabled hooks. Components are imported when loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pluggy

from rlx.boot import Boot, PluginRecord
from rlx.config.sections.plugins import PluginsConfig
from rlx.errors import PluginError, did_you_mean
from rlx.plugins.catalog import SINGULAR, Catalog, discover
from rlx.plugins.hooks import Hooks
from rlx.plugins.load import load
from rlx.plugins.options import make
from rlx.plugins.records import owner
from rlx.plugins.registry import Registry
from rlx.plugins.resolve import resolve, unknown_message
from rlx.plugins.timings import CallTimings, HookFailures


class ComponentSource(Protocol):
    """Components from outside the environment's plugins: those of a launch script."""

    def component(self, record: PluginRecord) -> object:
        """Return the object that `record` stands for. Raises PluginError if the script does not give it."""


class Plugins:
    """The components and hooks that this process may use, each with its owner."""

    def __init__(
        self, records: Sequence[PluginRecord], hooks: Hooks, registry: Registry, script: ComponentSource | None = None
    ) -> None:
        self._records: Mapping[tuple[str, str], PluginRecord] = {(r.kind, r.name): r for r in records}
        self._hooks = hooks
        self._registry = registry
        self._script = script

    @classmethod
    def open(cls, boot: Boot, script: ComponentSource | None = None) -> Plugins:
        """Verify the environment and register the hooks.

        Raises PluginError if a plugin differs from the launcher's or a hooks plugin is unfit, and ConfigError if the
        options of one do not fit.
        """
        catalog, base_dir = discover(), Path(boot.base_dir)
        unscripted = [record for record in boot.plugins if not record.part]  # `Script` verifies its own file
        enabled = [record for record in boot.plugins if record.kind == "hooks"]
        _verify([record for record in unscripted if record.kind == "hooks"], catalog, base_dir, Registry())
        section = PluginsConfig.model_validate(boot.config.get("plugins", {}))
        hooks, registry = open_hooks(enabled, section, script)
        _verify([record for record in unscripted if record.kind != "hooks"], catalog, base_dir, registry)
        return cls(boot.plugins, hooks, registry, script)

    @property
    def records(self) -> list[PluginRecord]:
        """The content of plugins.json."""
        return list(self._records.values())

    @property
    def hooks(self) -> pluggy.HookRelay:
        """The hooks of all enabled plugins: `hooks.rlx_step_end(step=3, metrics={...})`."""
        return self._hooks.relay

    @property
    def enabled_hooks(self) -> Hooks:
        """The hooks of all enabled plugins, for a `HookThread`."""
        return self._hooks

    @property
    def timings(self) -> CallTimings:
        """Seconds and calls of hooks in this process; others may be added to them."""
        return self._hooks.timings

    @property
    def hook_failures(self) -> HookFailures:
        """Failures of hooks in this process; others may be added to them."""
        return self._hooks.failures

    @property
    def script(self) -> ComponentSource | None:
        """The components of the run's launch script, if it has one."""
        return self._script

    def load(self, kind: str, name: str) -> Any:
        """Return the object that the config calls `name`. Raises PluginError if its import fails."""
        record = self._record(kind, name)
        if not record.part and self._registry.record(kind, name) is not None:
            return self._registry.component(kind, name)
        return _load_record(record, self._script)

    def make(self, kind: str, name: str, args: Mapping[str, object], *, where: str = "args") -> Any:
        """Call the class or function `name` with the config's `args`; `where` is their place in the config.

        Raises ConfigError if the args do not fit or the component refuses them (ValueError), PluginError otherwise.
        """
        target, owner = self.load(kind, name), self.owner(kind, name)
        if not callable(target):
            raise PluginError(f"{owner} is a {type(target).__name__}, not a class.")
        return make(target, args, where=where, owner=owner)

    def has(self, kind: str, name: str) -> bool:
        """Return whether a plugin of that kind and name is among those of this run."""
        return (kind, name) in self._records

    def owner(self, kind: str, name: str) -> str:
        """Return who is responsible for a plugin: `reward 'judge' (my-dist 1.2, my_mod:judge)`."""
        return owner(self._record(kind, name))

    def names(self, kind: str) -> list[str]:
        """Return the names of that kind that this run uses, in the config's order."""
        return [name for known, name in self._records if known == kind]

    def _record(self, kind: str, name: str) -> PluginRecord:
        if (kind, name) not in self._records:
            near = did_you_mean(name, self.names(kind))
            raise PluginError(f"This run's config names no {SINGULAR[kind]} {name!r}.{near}")
        return self._records[kind, name]


def open_hooks(
    records: Sequence[PluginRecord], section: PluginsConfig, script: ComponentSource | None = None
) -> tuple[Hooks, Registry]:
    """Import the hooks plugins that `[plugins]` enables, make those that are classes, and let each add its components.

    Raises ConfigError if options do not fit, and PluginError if a plugin can't be imported, made or registered.
    """
    loaded = [(record, _load_record(record, script)) for record in records]
    hooks, registry = Hooks(loaded, section), Registry()
    for record in records:
        with registry.provided_by(record):
            hooks.only(record.name, "rlx_register")(registry=registry)
    return hooks, registry


def _load_record(record: PluginRecord, script: ComponentSource | None) -> object:
    if not record.part:
        return load(record)
    assert script is not None, "a part of a launch script comes with the script"
    return script.component(record)


def resolve_component(kind: str, word: str, catalog: Catalog, registry: Registry, base_dir: Path) -> PluginRecord:
    """Resolve a name as `resolve` does, among the components that hooks plugins added, too.

    Raises PluginError, also if both an installed distribution and a hooks plugin offer the name.
    """
    added = registry.record(kind, word)
    installed = catalog.named(kind, word)
    if added is None:
        if not installed and word not in catalog.names(kind) and not set(":/") & set(word):
            raise PluginError(unknown_message(kind, word, sorted({*catalog.names(kind), *registry.names(kind)})))
        return resolve(kind, word, catalog, base_dir)
    if installed:
        raise PluginError(
            f"{SINGULAR[kind]} {word!r} is offered by {installed[0].qualified} and registered by {owner(added)}.\n"
            f"Write {installed[0].qualified!r} for the first, or disable the hooks plugin."
        )
    return added


def _verify(records: Sequence[PluginRecord], catalog: Catalog, base_dir: Path, registry: Registry) -> None:
    for record in records:
        here = resolve_component(record.kind, record.name, catalog, registry, base_dir)
        for field in ("dist", "version", "target", "sha256"):
            theirs, ours = getattr(record, field), getattr(here, field)
            if theirs != ours:
                raise PluginError(
                    f"{owner(record)} is not the same in this process: {field} was {theirs!r} for the launcher and is "
                    f"{ours!r} here.\n"
                    "Install the same versions everywhere, and don't change plugin files during a run."
                )
