"""Plugin records in messages: owners, and the parts of a target."""

from __future__ import annotations

from rlx.boot import PluginRecord
from rlx.plugins.catalog import SINGULAR


def owner(record: PluginRecord) -> str:
    """Return who is responsible for a plugin: `reward 'judge' (my-dist 1.2, my_mod:judge)`."""
    return owner_text(record.kind, record.name, record.dist, record.version, record.target, record.part)


def owner_text(kind: str, name: str, dist: str, version: str, target: str, part: str = "") -> str:
    """Return the owner as `owner` does, from the fields of a record."""
    places = [f"{dist} {version}" if dist else "", target, part]
    return f"{SINGULAR[kind]} {name!r} ({', '.join(filter(None, places))})"


def split_target(target: str) -> tuple[str, str]:
    """Split `module:attribute` or `/abs/file.py:attribute`; the attribute is empty if the target is a module."""
    place, colon, attribute = target.rpartition(":")
    return (place, attribute) if colon else (target, "")


def is_file(place: str) -> bool:
    return place.endswith(".py")
