"""Makes the algorithm that a config names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlx.errors import PluginError
from rlx.plugins.objects import Contract, check_methods

if TYPE_CHECKING:
    from rlx.algorithms.base import Algorithm
    from rlx.config.schema import Config
    from rlx.plugins.session import Plugins


CONTRACT = Contract(made_with=("**args",), methods={"loss": ("batch", "totals")})
RL_CONTRACT = Contract(CONTRACT.made_with, {"advantages": ("groups",), **CONTRACT.methods})


def make_algorithm(plugins: Plugins, config: Config) -> Algorithm:
    """Return the run's algorithm. Raises PluginError if it can't be made from `[algorithm] args`, or it lacks
    an attribute or a method that every algorithm has.
    """
    name = config.algorithm.name
    algorithm: Algorithm = plugins.make("algorithms", name, config.algorithm.args, where="[algorithm] args")
    if not isinstance(getattr(type(algorithm), "rollouts", None), bool):
        raise PluginError(
            f"{plugins.owner('algorithms', name)} does not say whether it learns from samples: "
            "give its class `rollouts = True` (RL) or `rollouts = False` (SFT)."
        )
    owner = plugins.owner("algorithms", name)
    check_methods(algorithm, RL_CONTRACT if algorithm.rollouts else CONTRACT, owner=owner)
    if not hasattr(algorithm, "needs_reference"):
        raise PluginError(f"{owner} has no needs_reference: give its class `needs_reference = False`, or a property.")
    return algorithm
