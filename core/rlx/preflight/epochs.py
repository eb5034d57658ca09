"""`run.epochs` in steps, once the number of rows in an epoch is known."""

from __future__ import annotations

import math

from rlx.config.rules import contradictions
from rlx.config.schema import Config
from rlx.config.sections.base import MANY_STEPS
from rlx.errors import ConfigError


def with_steps(config: Config, rows: int) -> Config:
    """Return the config with `run.steps` in place of `run.epochs`.

    Steps are rounded up: the last one is filled with rows of the next epoch. Raises ConfigError if the number of steps
    contradicts another key.
    """
    if config.run.epochs is None:
        return config
    # Rounded, so that 1.1 * 10 rows are 11 and not 12.
    steps = math.ceil(round(config.run.epochs * rows / config.policy.groups_per_step, 6))
    if steps > MANY_STEPS:
        raise ConfigError(f"[run] epochs = {config.run.epochs:g} of {rows:,} rows are more than {MANY_STEPS:,} steps.")
    resolved = config.model_copy(update={"run": config.run.model_copy(update={"steps": steps, "epochs": None})})
    if found := contradictions(resolved):
        raise ConfigError(f"[run] epochs = {config.run.epochs:g} of {rows:,} rows: {found[0]}")
    return resolved
