"""`rlx plugins`: what is installed, from metadata; nothing of it is imported."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from rlx.plugins.catalog import Catalog, Entry, discover
from rlx_cli.messages import say_note, wide_console


def plugins_command(*, as_json: bool) -> None:
    catalog = discover()
    if as_json:
        sys.stdout.write(json.dumps([_row(entry) for entry in catalog.entries], indent=2) + "\n")
    else:
        _print_table(catalog)
    for problem in catalog.unreadable:
        say_note(f"metadata that can't be read: {problem}")


def _row(entry: Entry) -> dict[str, str]:
    values = asdict(entry)
    return {key: values[key] for key in ("kind", "name", "dist", "version", "target")}


def _print_table(catalog: Catalog) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("kind", "name", "distribution", "version", "target"):
        table.add_column(column, overflow="fold")
    for entry in catalog.entries:
        # Where two distributions offer one name, only the qualified name works in a config.
        clash = len(catalog.named(entry.kind, entry.name)) > 1
        name = Text(entry.qualified, "yellow") if clash else Text(entry.name)
        table.add_row(Text(entry.kind), name, Text(entry.dist), Text(entry.version), Text(entry.target))
    wide_console().print(table)
