"""Names that users' files and scripts depend on: they change only on purpose, together with the lists in this folder.

`python tests/unit/frozen/test_frozen.py` rewrites the lists.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

HERE = Path(__file__).parent


def config_keys() -> list[str]:
    """`policy.optimizer.lr`, ...: each key that a config may have, with the defaults of a key that has one."""
    from rlx import Config

    schema = Config.model_json_schema()
    return sorted(_keys(schema, schema["$defs"], ""))


def _keys(node: Mapping[str, Any], defs: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, value in node.get("properties", {}).items():
        key = f"{path}{name}"
        nested = [defs[part.rpartition("/")[2]] for part in _references(value)]
        tables = [table for table in nested if "properties" in table]
        yield f"{key} = {value['default']!r}" if "default" in value and not tables else key
        for table in tables:
            yield from _keys(table, defs, f"{key}.")


def _references(value: Mapping[str, Any]) -> Iterator[str]:
    if "$ref" in value:
        yield value["$ref"]
    for part in (*value.get("anyOf", ()), *value.get("allOf", ()), *([value["items"]] if "items" in value else [])):
        yield from _references(part)


def command_line() -> list[str]:
    """`run --policy`, `run SCRIPT`, ...: each command with its options and arguments."""
    from rlx_cli.main import app

    return sorted(_commands(typer.main.get_command(app), ""))


def _commands(command: Any, path: str) -> Iterator[str]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, f"{path}{name} ")
    for parameter in command.params:
        is_option = parameter.param_type_name == "option"
        yield f"{path}{', '.join(parameter.opts) if is_option else (parameter.metavar or parameter.name)}"


LISTS = {"config_keys.txt": config_keys, "command_line.txt": command_line}


@pytest.mark.parametrize("name", LISTS)
def test_names_that_users_depend_on_are_unchanged(name):
    assert LISTS[name]() == (HERE / name).read_text().splitlines()


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for name, names in LISTS.items():
        (folder / name).write_text("".join(f"{line}\n" for line in names()))
