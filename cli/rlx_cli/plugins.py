"""`rlx plugins`: list the installed plugins from metadata, without importing them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict

from rlx.errors import PluginError
from rlx.names import VERSION
from rlx.plugins.catalog import OWN, Catalog, Entry, discover
from rlx.terminal import visible
from rlx_cli.group import own_commands
from rlx_cli.messages import say_note


def plugins_command(*, as_json: bool) -> None:
    catalog = discover()
    if as_json:
        sys.stdout.write(json.dumps([row_of(entry) for entry in catalog.entries], indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(catalog))
    for note in notes(catalog):
        say_note(note)


def notes(catalog: Catalog, dist: str | None = None) -> Iterator[str]:
    """Yield what is wrong with distributions, or with one of them, without importing their plugins."""
    for group in catalog.misnamed:
        if dist in (None, group.dist):
            yield str(group)
    for entry in catalog.of("commands"):
        if dist in (None, entry.dist) and hidden_command(entry):
            yield f"{entry.dist}: its command {entry.name!r} can't be called: `rlx {entry.name}` is rlx's own."
    if dist is None:
        for problem in catalog.unreadable:
            yield f"metadata that can't be read: {problem}"


def hidden_command(entry: Entry) -> bool:
    """Return whether the entry is a command whose name is that of one of rlx's own."""
    return entry.kind == "commands" and entry.name in own_commands()


def unfit(entry: Entry) -> str:
    """Return the rlx that the entry's distribution wants, if it isn't this one: `needs rlx>=2`."""
    if not entry.requires_rlx or entry.dist == OWN:
        return ""
    from rlx.plugins.resolve import check_compatible

    try:
        check_compatible(entry)
    except PluginError:
        return f"needs {' and '.join(entry.requires_rlx)}: this is rlx {VERSION}"
    return ""


def row_of(entry: Entry) -> dict[str, str]:
    """Return the entry as a row of the JSON output."""
    values = asdict(entry)
    return {key: values[key] for key in ("kind", "name", "dist", "version", "target")}


def _lines(catalog: Catalog) -> Iterator[str]:
    """Yield a table in plain text, which needs no import of rich and works with grep."""
    rows: list[tuple[str, ...]] = [("kind", "name", "distribution", "version", "target", "")]
    for entry in catalog.entries:
        # If two distributions offer one name, a config means the built-in one by it, or neither.
        name = entry.name if catalog.chosen(entry.kind, entry.name) == entry else entry.qualified
        cells = (entry.kind, name, entry.dist, entry.version, entry.target, unfit(entry))
        rows.append(tuple(map(visible, cells)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
