"""What the installed distributions offer, from their metadata alone.

A catalog is a value: `discover()` makes a new one, and nothing keeps it. A distribution whose metadata can't be read is
listed in `unreadable` and changes nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib import metadata

from rlx.plugins.kinds import GROUP_PREFIX, SINGULAR


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
    """The distribution's `Requires-Dist` lines that are about rlx."""

    @property
    def qualified(self) -> str:
        return f"{self.dist}/{self.name}"


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything that installed distributions offer to rlx."""

    entries: tuple[Entry, ...] = ()
    unreadable: tuple[str, ...] = ()
    """One line for each distribution whose metadata is broken."""

    def of(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind == kind]

    def named(self, kind: str, name: str) -> list[Entry]:
        """Entries of that name or qualified name (`dist/name`); more than one where distributions collide."""
        return [entry for entry in self.of(kind) if name in (entry.name, entry.qualified)]

    def names(self, kind: str) -> list[str]:
        return sorted({entry.name for entry in self.of(kind)})


def discover(kinds: Collection[str] = tuple(SINGULAR)) -> Catalog:
    """Read the metadata of all distributions on `sys.path`. Imports nothing."""
    entries: list[Entry] = []
    unreadable: list[str] = []
    for dist in _distributions(kinds):
        try:
            entries.extend(entry for entry in _entries(dist) if entry.kind in kinds)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            unreadable.append(f"{_location(dist)}: {type(error).__name__}: {error}")
    return Catalog(tuple(sorted(entries, key=_order)), tuple(unreadable))


def _order(entry: Entry) -> tuple[int, str, str]:
    return list(SINGULAR).index(entry.kind), entry.name, entry.dist


def _distributions(kinds: Collection[str]) -> Iterator[metadata.Distribution]:
    """Those that offer such kinds; the first of a name on the path hides later ones, as for imports."""
    seen: set[str] = set()
    groups = [f"[{GROUP_PREFIX}{kind}]" for kind in kinds]
    for dist in metadata.distributions():
        # Reading the small file as text first keeps hundreds of unrelated distributions cheap.
        text = dist.read_text("entry_points.txt")
        if not text or not any(group in text for group in groups):
            continue
        key = _location(dist).rpartition("/")[2].partition("-")[0].lower()
        if key not in seen:
            seen.add(key)
            yield dist


def _location(dist: metadata.Distribution) -> str:
    return str(getattr(dist, "_path", dist))


def _entries(dist: metadata.Distribution) -> list[Entry]:
    headers = dist.metadata  # parsed at each access
    name, version = headers["Name"], headers["Version"]
    if not isinstance(name, str) or not isinstance(version, str):
        raise TypeError("its METADATA gives no name and version")
    requires = tuple(
        line for line in headers.get_all("Requires-Dist") or dist.requires or () if _project(line) == "rlx"
    )
    return [
        Entry(kind, point.name, name, version, _target(point), requires)
        for point in dist.entry_points
        if point.group.startswith(GROUP_PREFIX) and (kind := point.group.removeprefix(GROUP_PREFIX)) in SINGULAR
    ]


def _project(requirement: str) -> str:
    """The name that a `Requires-Dist` line begins with. Whether rlx fits is read by `packaging`, when it matters: its
    import alone would double the time of a listing.
    """
    found = re.match(r"\s*([\w.-]+)", requirement)
    return found.group(1).lower() if found else ""


def _target(point: metadata.EntryPoint) -> str:
    return f"{point.module}:{point.attr}" if point.attr else point.module
