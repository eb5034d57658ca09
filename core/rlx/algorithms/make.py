"""Makes the algorithm that a config names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlx.errors import PluginError

if TYPE_CHECKING:
    from rlx.algorithms.base import Algorithm
    from rlx.config.schema import Config
    from rlx.plugins.session import Plugins


def make_algorithm(plugins: Plugins, config: Config) -> Algorithm:
    """Return the run's algorithm. Raises PluginError if it can't be made from `[algorithm] args`, or its class doesn't
    set `rollouts`.
    """
    name = config.algorithm.name
    algorithm: Algorithm = plugins.make("algorithms", name, config.algorithm.args, where="[algorithm] args")
    if not isinstance(getattr(type(algorithm), "rollouts", None), bool):
        raise PluginError(
            f"{plugins.owner('algorithms', name)} does not say whether it learns from samples: "
            "give its class `rollouts = True` (RL) or `rollouts = False` (SFT)."
        )
    return algorithm
