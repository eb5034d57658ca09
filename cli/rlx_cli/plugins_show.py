"""`rlx plugins show KIND NAME`: import one plugin and show its source file, docstring and options.

NAME is as in a config; `./file.py:name` is relative to the working directory.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Group
from rich.table import Table
from rich.text import Text

from rlx.plugins.catalog import SINGULAR, discover, kind_of
from rlx.plugins.load import load
from rlx.plugins.options import Option
from rlx.plugins.records import split_target
from rlx.plugins.resolve import hidden_note, resolve
from rlx.preflight.describe import options
from rlx.terminal import visible
from rlx_cli.messages import plain, say_note, wide_console
from rlx_cli.paste import toml_for, toml_value

if TYPE_CHECKING:
    from rlx.boot import PluginRecord


def show_command(kind: str, name: str, *, as_json: bool) -> None:
    """Print the plugin. Raises UsageError if the kind or plugin is unknown, or if the import fails."""
    catalog = discover()
    record = resolve(kind_of(kind), name, catalog, Path())
    if note := hidden_note(record, catalog):
        say_note(note)
    with contextlib.redirect_stdout(sys.stderr):  # output of the import is not part of the answer
        shown = _load(record)
    if as_json:
        sys.stdout.write(json.dumps(_row(shown), indent=2) + "\n")
    else:
        wide_console().print(Group(*_parts(shown)))


@dataclass(frozen=True)
class _Shown:
    record: PluginRecord
    file: str
    line: int | None
    doc: str
    options: list[Option]

    @property
    def toml(self) -> str:
        return toml_for(self.record.kind, self.record.name, self.options)


def _load(record: PluginRecord) -> _Shown:
    target = load(record)
    module = load(msgspec.structs.replace(record, target=split_target(record.target)[0]))
    file, line = _source(target, module)
    return _Shown(record, file, line, _doc(target, module), options(record.kind, target))


def _row(shown: _Shown) -> dict[str, Any]:
    return {
        **{key: getattr(shown.record, key) for key in ("kind", "name", "dist", "version", "target")},
        **{key: getattr(shown, key) for key in ("file", "line", "doc", "toml")},
        "options": [vars(option) for option in shown.options],
    }


def _parts(shown: _Shown) -> Iterator[Text | Table]:
    record = shown.record
    provider = f"{record.dist} {record.version}" if record.dist else "no installed distribution"
    yield plain(f"{SINGULAR[record.kind]} {record.name}", "bold").append(visible(f", from {provider}"), "not bold")
    yield plain(f"{record.target}\n{shown.file}" + (f":{shown.line}" if shown.line else ""))
    if shown.doc:
        yield plain(f"\n{shown.doc}")
    if shown.options:
        yield Text()
        yield _table(shown.options)
    if shown.toml:
        yield Text("\nIn the config:\n", "bold")
        yield plain(shown.toml)


def _table(found: Sequence[Option]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    columns = ["option", "type", "default", *(["meaning"] if any(option.doc for option in found) else [])]
    for column in columns:
        table.add_column(column, overflow="fold")
    for option in found:
        default = "required" if option.required else "none" if option.default is None else toml_value(option.default)
        table.add_row(*map(plain, (option.name, option.type, default, option.doc)[: len(columns)]))
    return table


def _doc(target: Any, module: ModuleType) -> str:
    """Return its docstring, and that of a class's constructor; for an object, the docstring of its module."""
    texts = [target.__doc__ if _is_code(target) else None]
    if inspect.isclass(target):
        texts.append(getattr(vars(target).get("__init__"), "__doc__", None))
    return "\n\n".join(inspect.cleandoc(text) for text in texts if text) or inspect.cleandoc(module.__doc__ or "")


def _source(target: Any, module: ModuleType) -> tuple[str, int | None]:
    """Return file and line; for an object, the file of its module."""
    if _is_code(target):
        try:
            return inspect.getsourcefile(target) or "", inspect.getsourcelines(target)[1]
        except (OSError, TypeError):  # compiled, or built in
            pass
    return str(getattr(module, "__file__", "")), None


def _is_code(target: Any) -> bool:
    return inspect.isroutine(target) or inspect.isclass(target)
