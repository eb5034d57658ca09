"""The section `[plugins]`."""

from __future__ import annotations

from typing import ClassVar

from rlx.config.sections.base import Component, Section


class HooksConfig(Component):
    """One hooks plugin with its options. Only one that is a class takes any."""

    kind: ClassVar[str] = "hooks"


class PluginsConfig(Section):
    """Hooks take part only if they are listed here."""

    enable: list[str | HooksConfig] = []
    """`rlx.hooks` plugins, in call order: names, or tables `{ name = "...", args = { ... } }`."""
    best_effort: list[str] = []
    """Those of `enable` that may raise without ending the run, by name."""

    @property
    def hooks(self) -> list[HooksConfig]:
        """`enable`, with a table for each plugin."""
        return [HooksConfig(name=hook) if isinstance(hook, str) else hook for hook in self.enable]

    @property
    def names(self) -> list[str]:
        """The names of `enable`."""
        return [hook if isinstance(hook, str) else hook.name for hook in self.enable]
