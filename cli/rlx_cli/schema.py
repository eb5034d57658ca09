"""`rlx schema [--plugins]`: the config's JSON Schema, with the options of plugins below `args`.

Options of the built-in components come from their signatures. Third-party plugins must be imported for that, so they
are included only with `--plugins`, each imported in a process of its own; a failure is a note on stderr.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rlx.config.schema import Config
from rlx.errors import RlxError
from rlx.plugins.catalog import Catalog, Entry, discover
from rlx.plugins.load import load
from rlx.plugins.resolve import resolve
from rlx.preflight.describe import args_schema
from rlx.testing.probe import probe
from rlx_cli.messages import say_note

HOLDERS: Mapping[str, str] = MappingProxyType(
    {
        "datasets": "DatasetConfig",
        "rewards": "RewardConfig",
        "packers": "PackerConfig",
        "algorithms": "AlgorithmConfig",
        "hooks": "HooksConfig",
    }
)
"""Kind -> the definition that has `name` and `args`."""
IMPORT_SECONDS = 60.0


def schema_command(*, plugins: bool) -> None:
    """Write the JSON Schema to stdout, with the keys as the file has them."""
    sys.stdout.write(schema_text(plugins=plugins))


def schema_text(*, plugins: bool) -> str:
    """Return the JSON Schema of a config file, which a launch script may complete."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema(by_alias=True)}
    # The file may leave out what a launch script gives.
    schema["required"].remove("dataset")
    schema["$defs"]["EvalConfig"]["required"].remove("dataset")
    catalog = discover()
    for entry in catalog.entries:
        if entry.kind in HOLDERS and (plugins or entry.dist == "rlx"):
            _add(schema["$defs"], entry, catalog)
    return json.dumps(schema, indent=2) + "\n"


def _add(definitions: dict[str, Any], entry: Entry, catalog: Catalog) -> None:
    """Add the schema of `args` for the case that `name` is this component's."""
    args = _args_schema(entry, catalog)
    if args is None:
        return
    definitions.update({_prefix(entry) + name: part for name, part in args.pop("$defs", {}).items()})
    holder = definitions[HOLDERS[entry.kind]]
    name = holder["properties"]["name"]
    # If the key may be left out, its default stands for the missing name.
    required = [] if name.get("default") == entry.name else ["name"]
    names = list(_names(entry, catalog))
    name.setdefault("examples", []).extend(names)
    holder.setdefault("allOf", []).append(
        {
            "if": {"properties": {"name": {"enum": names}}, "required": required},
            "then": {"properties": {"args": args}, "required": ["args"] if args.get("required") else []},
        }
    )


def _args_schema(entry: Entry, catalog: Catalog) -> dict[str, Any] | None:
    template = f"#/$defs/{_prefix(entry)}{{model}}"
    try:
        record = resolve(entry.kind, entry.qualified, catalog, Path())
        if entry.dist == "rlx":
            return args_schema(entry.kind, load(record), template)
    except RlxError as error:
        say_note(f"left out: {error}")
        return None
    report = probe(record, contract=False, timeout_seconds=IMPORT_SECONDS, ref_template=template)
    if report.error:
        say_note(f"left out: {entry.qualified}: {report.error}")
        return None
    return report.args_schema


def _prefix(entry: Entry) -> str:
    return f"{entry.kind}.{entry.dist}.{entry.name}."


def _names(entry: Entry, catalog: Catalog) -> Iterator[str]:
    """Yield the names by which a config may call it."""
    if catalog.chosen(entry.kind, entry.name) == entry:
        yield entry.name
    yield entry.qualified
