"""The kinds of plugin, and how each is called in messages and in metadata."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

GROUP_PREFIX = "rlx."

SINGULAR: Mapping[str, str] = MappingProxyType(
    {
        "datasets": "dataset",
        "rewards": "reward",
        "packers": "packer",
        "models": "model plugin",
        "algorithms": "algorithm",
        "launchers": "launcher",
        "loggers": "logger",
        "commands": "command",
        "hooks": "hooks plugin",
    }
)
"""Kind (the entry-point group without `rlx.`) -> what a message calls one of it."""
