"""How a plugin record is spoken of, in messages and in plugins.json."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import msgspec

from rlx.boot import PluginRecord
from rlx.plugins.kinds import SINGULAR


def owner(record: PluginRecord) -> str:
    """`reward 'judge' (my-dist 1.2, my_mod:judge)`: who answers for a plugin."""
    where = f"{record.dist} {record.version}, {record.target}" if record.dist else record.target
    where += f", {record.part}" if record.part else ""
    return f"{SINGULAR[record.kind]} {record.name!r} ({where})"


def split_target(target: str) -> tuple[str, str]:
    """`module:attribute` or `/abs/file.py:attribute` in two; the attribute is empty where the target is the module."""
    place, colon, attribute = target.rpartition(":")
    return (place, attribute) if colon else (target, "")


def is_file(place: str) -> bool:
    return place.endswith(".py")


def write_plugins_json(path: Path, records: Iterable[PluginRecord]) -> None:
    """plugins.json of the run directory."""
    path.write_text(json.dumps(msgspec.to_builtins(list(records)), indent=2) + "\n")
