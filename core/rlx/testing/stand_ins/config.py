"""A config for tests of plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlx.config.schema import Config


def example_config() -> Config:
    """Return a valid config in which every key that has a default has that default."""
    from rlx.config.schema import Config

    return Config.model_validate({"model": {"path": "a-model"}, "dataset": {"name": "a-dataset"}})
