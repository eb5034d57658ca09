"""What is said of a config that does not validate: one message, every problem, in the words of the file.

Each line names the table and key as the user wrote them: `[policy.optimizer] lrr: unknown key. Did you mean 'lr'?`
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from rlx.errors import did_you_mean

Loc = tuple[int | str, ...]

_EXPECTED: Mapping[str, str] = types.MappingProxyType(
    {
        "int_type": "an integer",
        "int_parsing": "an integer",
        "int_from_float": "an integer",
        "float_type": "a number",
        "float_parsing": "a number",
        "finite_number": "a finite number",
        "string_type": "text",
        "bool_type": "true or false",
        "bool_parsing": "true or false",
        "list_type": "a list",
        "tuple_type": "a list",
        "set_type": "a list",
        "dict_type": "a table",
        "model_type": "a table",
        "none_required": "nothing",
    }
)
"""pydantic's type errors -> what belongs there."""

_BOUNDS: Mapping[str, tuple[str, str]] = types.MappingProxyType(
    {
        "greater_than": ("gt", "must be greater than {}"),
        "greater_than_equal": ("ge", "must be at least {}"),
        "less_than": ("lt", "must be less than {}"),
        "less_than_equal": ("le", "must be at most {}"),
        "string_pattern_mismatch": ("pattern", "must match {}"),
        "string_too_short": ("min_length", "must have at least {} character(s)"),
        "too_short": ("min_length", "must have at least {} item(s)"),
        "too_long": ("max_length", "must have at most {} item(s)"),
    }
)
"""pydantic's range errors -> the name of the bound, and what is said of it."""


def expectation(error: ErrorDetails) -> str:
    """`expected an integer, got "512" (text)`; `must be at least 1, got 0`."""
    kind, context, got = error["type"], error.get("ctx", {}), f"got {shown(error['input'])}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, {got}"
    if kind in _BOUNDS:
        bound, text = _BOUNDS[kind]
        limit = context[bound]
        return f"{text.format(f'{limit:g}' if isinstance(limit, float) else limit)}, {got}"
    if kind == "literal_error":
        hint = did_you_mean(str(error["input"]), [word.strip("' ") for word in _words(context["expected"])])
        return f"expected {context['expected']}, {got}.{hint}" if hint else f"expected {context['expected']}, {got}"
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}, {got}"


def _words(expected: str) -> list[str]:
    return expected.replace(" or ", ",").split(",")


def shown(value: object) -> str:
    """A value as a TOML file has it, with its type where that could be mistaken."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{_short(value)}" (text)'
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return f"a list {_short(str(value))}"
    return str(value)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def problems(model: type[BaseModel], errors: Sequence[ErrorDetails], origin: Callable[[Loc], str]) -> list[str]:
    """One line for each validation error of `model`.

    `origin` says where a value came from, where that was not the file.
    """
    lines: dict[str, None] = {}  # a union reports a value once a branch
    for error in errors:
        loc = tuple(error["loc"])
        lines.setdefault(f"{_problem(model, error, loc)}{origin(loc)}")
    return list(lines)


def _problem(model: type[BaseModel], error: ErrorDetails, loc: Loc) -> str:
    table, depth = _innermost(model, loc)
    if error["type"] == "extra_forbidden":
        return _unknown(model, table, loc, error["input"])
    if error["type"] == "missing":
        return _missing(table, loc, depth)
    return f"{place(loc[:depth], loc[depth:])}: {expectation(error)}"


def _unknown(model: type[BaseModel], table: type[BaseModel], loc: Loc, value: object) -> str:
    name, known = str(loc[-1]), keys(table)
    hint = did_you_mean(name, known) or _elsewhere(model, name)
    if len(loc) == 1 and isinstance(value, dict | list):
        return f"[{name}]: unknown section.{hint}"
    return f"{place(loc[:-1], loc[-1:])}: unknown key.{hint}"


def _elsewhere(model: type[BaseModel], name: str) -> str:
    homes = [f"[{path}]" for path, table in tables(model) if path and name in keys(table)]
    return f" It is a key of {' and of '.join(homes)}." if homes else ""


def _missing(table: type[BaseModel], loc: Loc, depth: int) -> str:
    name = str(loc[-1])
    inner = table_of(keys(table)[name]) if name in keys(table) else None
    if inner is not None:
        needed = ", ".join(key for key, annotation in keys(inner).items() if _required(inner, key))
        return f"[{'.'.join(map(str, loc))}]: this section is missing. It needs: {needed}"
    return f"{place(loc[:depth], loc[depth:])}: this is missing"


def _required(table: type[BaseModel], key: str) -> bool:
    return any((field.alias or name) == key and field.is_required() for name, field in table.model_fields.items())


def place(section: Loc, key: Loc) -> str:
    """`[policy.optimizer] betas[0]`, `[[rewards]] number 2, name`."""
    names = ".".join(str(part) for part in section if isinstance(part, str))
    numbers = [part + 1 for part in section if isinstance(part, int)]
    inside = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).removeprefix(".")
    if numbers:
        return f"[[{names}]] number {numbers[-1]}" + (f", {inside}" if inside else "")
    return " ".join(filter(None, [f"[{names}]" if names else "", inside]))


def keys(table: type[BaseModel]) -> dict[str, Any]:
    """The keys of a table as the file has them -> their types."""
    return {field.alias or name: field.annotation for name, field in table.model_fields.items()}


def tables(model: type[BaseModel], path: str = "") -> list[tuple[str, type[BaseModel]]]:
    """Every table of the schema with its dotted path; the whole file is ``""``."""
    found = [(path, model)]
    for key, annotation in keys(model).items():
        inner = table_of(annotation)
        if inner is not None:
            found.extend(tables(inner, f"{path}.{key}" if path else key))
    return found


def table_of(annotation: Any) -> type[BaseModel] | None:
    """The table that an annotation stands for, through `| None` and `list[...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, list):
        inner = (table_of(argument) for argument in get_args(annotation))
        return next((table for table in inner if table is not None), None)
    return None


def _innermost(model: type[BaseModel], loc: Loc) -> tuple[type[BaseModel], int]:
    """The table that holds the value at `loc`, and how much of `loc` is its own path."""
    table, depth = model, 0
    for index, part in enumerate(loc[:-1]):
        if isinstance(part, int):
            depth = index + 1 if depth == index else depth
            continue
        inner = table_of(keys(table).get(part))
        if inner is None:
            break
        table, depth = inner, index + 1
    return table, depth
