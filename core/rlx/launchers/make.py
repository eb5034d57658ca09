"""Makes the launcher that a config names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlx.plugins.objects import Contract, make_object

if TYPE_CHECKING:
    from rlx.config.schema import Config
    from rlx.launchers.base import Launcher
    from rlx.plugins.session import Plugins

CONTRACT = Contract(methods={"start": ("process",), "close": ()})


def make_launcher(config: Config, plugins: Plugins) -> Launcher:
    """Return the launcher. Raises PluginError if it can't be made, or isn't a launcher."""
    name = config.run.launcher
    target, owner = plugins.load("launchers", name), plugins.owner("launchers", name)
    made: Launcher = make_object(target, (), owner=owner, contract=CONTRACT)
    return made
