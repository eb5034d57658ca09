"""`rlx plugins`: list the installed plugins from metadata, without importing them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

from rlx.plugins.catalog import Catalog, Entry, discover
from rlx.terminal import visible
from rlx_cli.messages import say_note


def plugins_command(*, as_json: bool) -> None:
    catalog = discover()
    if as_json:
        sys.stdout.write(json.dumps([row_of(entry) for entry in catalog.entries], indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(catalog))
    for problem in catalog.unreadable:
        say_note(f"metadata that can't be read: {problem}")


def row_of(entry: Entry) -> dict[str, str]:
    """Return the entry as a row of the JSON output."""
    values = asdict(entry)
    return {key: values[key] for key in ("kind", "name", "dist", "version", "target")}


def _lines(catalog: Catalog) -> Iterator[str]:
    """Yield a table in plain text, which needs no import of rich and works with grep."""
    rows: list[tuple[str, ...]] = [("kind", "name", "distribution", "version", "target")]
    offers = Counter((entry.kind, entry.name) for entry in catalog.entries)
    for entry in catalog.entries:
        # If two distributions offer one name, only the qualified name works in a config.
        name = entry.qualified if offers[entry.kind, entry.name] > 1 else entry.name
        rows.append(tuple(map(visible, (entry.kind, name, entry.dist, entry.version, entry.target))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
