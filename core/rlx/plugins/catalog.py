"""Plugins that the installed distributions offer, read from their metadata alone.

A catalog is a value: `discover()` makes a new one, and nothing caches it. A distribution whose metadata can't be read
is listed in `unreadable` and changes nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from types import MappingProxyType

from rlx.errors import UsageError, did_you_mean

GROUP_PREFIX = "rlx."
OWN = "rlx"
"""The distribution of the built-in plugins."""
_GROUP = re.compile(r"^\s*\[\s*(rlx[._-][^\]\n]*?)\s*\]", re.IGNORECASE | re.MULTILINE)

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
"""Kind (the entry-point group without `rlx.`) -> its singular in messages."""


def kind_of(word: str) -> str:
    """Return the kind for a word such as `reward` or `rewards`. Raises UsageError for an unknown kind."""
    for kind in (word, f"{word}s"):
        if kind in SINGULAR:
            return kind
    known = [kind.removesuffix("s") for kind in SINGULAR]
    raise UsageError(f"Unknown kind of plugin {word!r}.{did_you_mean(word, known)} Kinds: {', '.join(known)}.")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry point of an `rlx.*` group."""

    kind: str
    name: str
    dist: str
    version: str
    target: str
    """`module:attribute`, or `module`."""
    requires_rlx: tuple[str, ...] = ()
    """`Requires-Dist` lines of the distribution that are about rlx."""

    @property
    def qualified(self) -> str:
        return f"{self.dist}/{self.name}"


@dataclass(frozen=True, slots=True)
class MisnamedGroup:
    """An entry-point group that rlx does not read: its plugins never appear."""

    dist: str
    group: str

    def __str__(self) -> str:
        known = [f"{GROUP_PREFIX}{kind}" for kind in SINGULAR]
        hint = did_you_mean(self.group.lower(), known) or f" Groups: {', '.join(known)}."
        return f"{self.dist}: rlx reads no entry-point group {self.group!r}, so its plugins don't appear.{hint}"


@dataclass(frozen=True, slots=True)
class Catalog:
    """All entry points of installed distributions for rlx."""

    entries: tuple[Entry, ...] = ()
    unreadable: tuple[str, ...] = ()
    """One line for each distribution with broken metadata."""
    misnamed: tuple[MisnamedGroup, ...] = ()
    """Entry-point groups that look like rlx's and that it does not read."""

    def of(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind == kind]

    def named(self, kind: str, name: str) -> list[Entry]:
        """Return the entries of a name or qualified name (`dist/name`): more than one if distributions collide."""
        return [entry for entry in self.of(kind) if name in (entry.name, entry.qualified)]

    def chosen(self, kind: str, name: str) -> Entry | None:
        """Return the entry that a config means by a name; None if there is none, or several to choose from.

        Among several, a built-in plugin is meant: a distribution that offers its name later changes no config.
        """
        found = self.named(kind, name)
        own = [entry for entry in found if entry.dist == OWN]
        return found[0] if len(found) == 1 else own[0] if len(own) == 1 else None

    def hidden(self, kind: str, name: str, dist: str) -> list[Entry]:
        """Return the entries of that name that are not meant by it, if that of `dist` is."""
        return [entry for entry in self.named(kind, name) if entry.dist != dist and entry.name == name]

    def names(self, kind: str) -> list[str]:
        return sorted({entry.name for entry in self.of(kind)})


def discover(kinds: Collection[str] = tuple(SINGULAR)) -> Catalog:
    """Read the metadata of all distributions on `sys.path`. Imports none of them."""
    entries: list[Entry] = []
    unreadable: list[str] = []
    misnamed: list[MisnamedGroup] = []
    for location, dist, strange in _distributions(kinds):
        try:
            entries.extend(entry for entry in _entries(dist) if entry.kind in kinds)
            misnamed.extend(MisnamedGroup(dist.metadata["Name"], group) for group in strange)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            unreadable.append(f"{location}: {type(error).__name__}: {error}")
    order = list(SINGULAR)
    entries.sort(key=lambda entry: (order.index(entry.kind), entry.name, entry.dist))
    return Catalog(tuple(entries), tuple(unreadable), tuple(misnamed))


def _distributions(kinds: Collection[str]) -> Iterator[tuple[str, metadata.Distribution, list[str]]]:
    """Yield the distributions that offer these kinds, with their paths and misnamed groups. The first of a name hides
    others.
    """
    seen: set[str] = set()
    groups = {f"{GROUP_PREFIX}{kind}" for kind in kinds}
    known = {f"{GROUP_PREFIX}{kind}" for kind in SINGULAR}
    for dist in metadata.distributions():
        # A search in the text of the small file keeps hundreds of unrelated distributions cheap.
        text = dist.read_text("entry_points.txt")
        found = _GROUP.findall(text) if text and "rlx" in text.lower() else []
        strange = [group for group in found if group not in known]
        if not strange and not groups.intersection(found):
            continue
        location = str(getattr(dist, "_path", dist))
        key = location.rpartition("/")[2].partition("-")[0].lower()
        if key not in seen:
            seen.add(key)
            yield location, dist, strange


def _entries(dist: metadata.Distribution) -> Iterator[Entry]:
    headers = dist.metadata  # parsed at each access
    name, version = headers["Name"], headers["Version"]
    if not isinstance(name, str) or not isinstance(version, str):
        raise TypeError("its METADATA gives no name and version")
    # Only the name of the project is read here: `packaging`, which reads the rest, takes time and is often not needed.
    lines = headers.get_all("Requires-Dist") or dist.requires or ()
    requires = tuple(line for line in lines if re.match(r"\s*rlx(?![\w.-])", line, re.IGNORECASE))
    for point in dist.entry_points:
        kind = point.group.removeprefix(GROUP_PREFIX)
        if kind in SINGULAR and point.group.startswith(GROUP_PREFIX):
            target = f"{point.module}:{point.attr}" if point.attr else point.module
            yield Entry(kind, point.name, name, version, target, requires)
