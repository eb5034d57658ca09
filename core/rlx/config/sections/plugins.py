"""The section `[plugins]`."""

from __future__ import annotations

from rlx.config.sections.base import Section


class PluginsConfig(Section):
    """Hooks take part only if they are listed here."""

    enable: list[str] = []
    """`rlx.hooks` plugins, in call order."""
    best_effort: list[str] = []
    """Those of `enable` that may raise without ending the run."""
