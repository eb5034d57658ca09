"""Lines to paste into a config: required options to fill in, the others commented out, with their defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from rlx.plugins.options import Option

_HEADS: Mapping[str, str] = MappingProxyType(
    {
        "datasets": "[dataset]\nname = {name}",
        "rewards": "[[rewards]]\nname = {name}",
        "packers": "[packer]\nname = {name}",
        "models": "[model]\nplugin = {name}",
        "algorithms": "[algorithm]\nname = {name}",
        "launchers": "[run]\nlauncher = {name}",
        "loggers": '[run]\nloggers = ["console", "jsonl", {name}]',
        "hooks": "[plugins]\nenable = [{name}]",
    }
)
_HOOKS_WITH_OPTIONS = "[[plugins.enable]]\nname = {name}"


def toml_for(kind: str, name: str, options: Sequence[Option]) -> str:
    """Return the lines for a component; "" for a command, which no config names."""
    if kind not in _HEADS:
        return ""
    head = (_HOOKS_WITH_OPTIONS if kind == "hooks" and options else _HEADS[kind]).format(name=toml_value(name))
    if not options:
        return head
    section = head.partition("\n")[0].strip("[]")
    return "\n".join([head, "", f"[{section}.args]", *map(_line, options)])


def _line(option: Option) -> str:
    if option.required:
        return f"{option.name} = ...  # required: {option.type}"
    if option.default is None:
        return f"# {option.name} = ...  # {option.type}"
    return f"# {option.name} = {toml_value(option.default)}"


def toml_value(thing: object) -> str:
    """Format a JSON value as TOML; None, which TOML does not have, as `...`."""
    if isinstance(thing, dict):
        inner = ", ".join(f"{json.dumps(key)} = {toml_value(entry)}" for key, entry in thing.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(thing, list):
        return f"[{', '.join(map(toml_value, thing))}]"
    return "..." if thing is None else json.dumps(thing, ensure_ascii=False)
