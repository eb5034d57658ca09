"""The kinds of plugin, and how each is called in messages and in metadata."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rlx.errors import UsageError, did_you_mean

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


def kind_of(word: str) -> str:
    """The kind that a user calls `reward` or `rewards`. Raises UsageError: there is no such kind."""
    for kind in (word, f"{word}s"):
        if kind in SINGULAR:
            return kind
    known = [kind.removesuffix("s") for kind in SINGULAR]
    raise UsageError(f"There is no kind of plugin {word!r}.{did_you_mean(word, known)} Kinds: {', '.join(known)}.")
