"""A launch script's components as plugins: which records stand for them, and how a process gets at them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from rlx.boot import Boot, PluginRecord, ScriptRecord
from rlx.config.schema import Config
from rlx.errors import PluginError
from rlx.plugins.kinds import SINGULAR
from rlx.plugins.session import Plugins
from rlx.script.components import ScriptComponent, script_offers
from rlx.script.runner import Script


def open_plugins(boot: Boot) -> Plugins:
    """The plugins of this process, components of the launch script included. Raises PluginError as `Plugins.open`."""
    return Plugins.open(boot, ScriptPlugins.of(boot.script, boot.load_config()) if boot.script else None)


class ScriptPlugins:
    """What a script gives to a run with this config. Nothing is run before something of it is asked for."""

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
        """None where the script has nothing of that kind and name."""
        offer, script = self._offers.get((kind, name)), self._script.record
        return PluginRecord(kind, name, "", "", script.target, script.sha256, offer.part) if offer else None

    def component(self, record: PluginRecord) -> Any:
        """Raises PluginError where the script gives other things in this process than in the launcher."""
        offer = self._offers.get((record.kind, record.name))
        if offer is None:
            raise PluginError(
                f"The launch script {self._script.record.target} gave {SINGULAR[record.kind]} {record.name!r} in the "
                "launcher, and does not in this process. It must hand over the same things each time."
            )
        return offer.component

    def names(self, kind: str) -> list[str]:
        return [name for known, name in self._offers if known == kind]

    @cached_property
    def _offers(self) -> Mapping[tuple[str, str], ScriptComponent]:
        return {(offer.kind, offer.name): offer for offer in script_offers(self._script.parts, self._config)}
