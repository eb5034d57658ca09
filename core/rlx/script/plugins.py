"""A launch script's components as plugins: the records that stand for them, and how a process loads them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from rlx.boot import Boot, PluginRecord, ScriptRecord
from rlx.config.schema import Config
from rlx.errors import PluginError
from rlx.plugins.catalog import SINGULAR
from rlx.plugins.session import Plugins
from rlx.script.components import ScriptComponent, script_components
from rlx.script.runner import Script


def open_plugins(boot: Boot) -> Plugins:
    """Open the plugins of this process, those of the launch script included. Raises as `Plugins.open` does."""
    return Plugins.open(boot, ScriptPlugins.of(boot.script, boot.load_config()) if boot.script else None)


class ScriptPlugins:
    """The components that a script gives to a run with this config. The script runs when the first one is needed."""

    def __init__(self, script: Script, config: Config) -> None:
        self._script = script
        self._config = config

    @classmethod
    def of(cls, record: ScriptRecord | None, config: Config) -> ScriptPlugins | None:
        return None if record is None else cls(Script(record), config)

    @property
    def script(self) -> Script:
        return self._script

    def record(self, kind: str, name: str) -> PluginRecord | None:
        """Return the record of a component; None if the script has none of that kind and name."""
        found, script = self._components.get((kind, name)), self._script.record
        return PluginRecord(kind, name, "", "", script.target, script.sha256, found.part) if found else None

    def component(self, record: PluginRecord) -> object:
        """Return the component of a record. Raises PluginError if the script does not give it in this process."""
        found = self._components.get((record.kind, record.name))
        if found is None:
            raise PluginError(
                f"The launch script {self._script.record.target} gave {SINGULAR[record.kind]} {record.name!r} in the "
                "launcher, and does not in this process. It must give the same components each time."
            )
        return found.component

    def names(self, kind: str) -> list[str]:
        return [name for known, name in self._components if known == kind]

    @cached_property
    def _components(self) -> Mapping[tuple[str, str], ScriptComponent]:
        return {(each.kind, each.name): each for each in script_components(self._script.parts, self._config)}
