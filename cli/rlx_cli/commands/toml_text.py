"""TOML text of a config, as a person would write it: a table for each section."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def document(tree: Mapping[str, object]) -> str:
    """Return a whole file. Values that are None are left out: TOML has none."""
    return "\n".join(_table(tree, ())).strip("\n") + "\n"


def value_text(value: object) -> str:
    """Format one value on one line."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key_text(key)} = {value_text(part)}" for key, part in value.items() if part is not None)
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(value_text, value))}]"
    return _string(value) if isinstance(value, str) else json.dumps(value)


def key_text(key: str) -> str:
    """Format a key, in quotes if TOML needs them."""
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    # A JSON string is a TOML string, except that TOML has no halves of surrogate pairs and no raw DEL. Other characters
    # that a terminal doesn't show as themselves are escaped as well.
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else _escape(char) for char in quoted)


def _escape(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _table(tree: Mapping[str, object], path: tuple[str, ...], *, of_list: bool = False) -> Iterator[str]:
    tables = {key: value for key, value in tree.items() if _is_section(value)}
    values = {key: value for key, value in tree.items() if key not in tables and value is not None}
    if of_list or (path and (values or not tables)):
        name = ".".join(map(key_text, path))
        yield f"\n[[{name}]]" if of_list else f"\n[{name}]"
    for key, value in values.items():
        yield f"{key_text(key)} = {value_text(value)}"
    for key, value in tables.items():
        if isinstance(value, Mapping):
            yield from _table(value, (*path, key))
        elif isinstance(value, list):
            for entry in value:
                yield from _table(entry, (*path, key), of_list=True)


def _is_section(value: object) -> bool:
    """Return whether a value gets a table of its own: a table with keys, or a list of tables."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(entry, Mapping) and entry for entry in value)
    return isinstance(value, Mapping) and bool(value)
