"""Turn pydantic's validation errors into messages: every problem of a table, in the words of the file.

Rules:

* One line for each problem, with the table and key as the user wrote them:
  `[policy.optimizer] lrr: unknown key. Did you mean 'lr'?`
* The sections of the config and the options of plugins (`rlx.plugins.options`) get the same texts.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from rlx.config.places import Loc, Place, branches, is_table, keys, locate, place, table_of
from rlx.errors import did_you_mean

Explain = Callable[[Place, str | None, object], str]
"""Returns a sentence, with a space before it, about an unknown key of a table and its value; "" if it knows nothing
better than the list of keys. For a missing key, the place is the key's own and the name is None."""

UNKNOWN_KEY = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
"""pydantic's error types for unknown keys, of a model and of a dataclass."""

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
"""pydantic's type errors -> the type that is expected."""

_LARGE = 1_000_000
"""Integers from this one on are written with commas. (A port is not.)"""

_BOUNDS: Mapping[str, tuple[str, str]] = types.MappingProxyType(
    {
        "greater_than": ("gt", "must be greater than {}"),
        "greater_than_equal": ("ge", "must be at least {}"),
        "less_than": ("lt", "must be less than {}"),
        "less_than_equal": ("le", "must be at most {}"),
        "string_pattern_mismatch": ("pattern", "must match {}"),
        "string_too_short": ("min_length", "must have at least {} character(s)"),
        "string_too_long": ("max_length", "must have at most {} character(s)"),
        "too_short": ("min_length", "must have at least {} item(s)"),
        "too_long": ("max_length", "must have at most {} item(s)"),
    }
)
"""pydantic's range errors -> the name of the bound, and the text about it."""


def report(name: str, lines: Sequence[str]) -> str:
    """Return one problem on one line, or several in a list below `name`."""
    if len(lines) == 1:
        return f"{name}: {lines[0]}"
    return "\n".join([f"{name}: {len(lines)} problems", *(f"  {line}" for line in lines)])


def problems(
    model: type[BaseModel],
    errors: Iterable[ErrorDetails],
    origin: Callable[[Loc], str] | None = None,
    explain: Explain | None = None,
) -> list[str]:
    """Return one line for each value of `model` that is wrong.

    `origin` names the source of the value at a path if that was not the file.
    """
    lines: dict[Loc, str] = {}
    for error in errors:
        found = _problem(model, error, explain)
        if found is not None:
            path, line = found
            # Each branch of a union reports the same value.
            lines.setdefault(path, f"{line}{origin(path)}" if origin is not None else line)
    # A union of text and a table reports a wrong table twice: it is not text, and a key of it is wrong.
    return [line for path, line in lines.items() if not any(path == other[: len(path)] != other for other in lines)]


def _problem(model: type[BaseModel], error: ErrorDetails, explain: Explain | None) -> tuple[Loc, str] | None:
    loc = tuple(error["loc"])
    if error["type"] in UNKNOWN_KEY:
        return _unknown(model, loc, error["input"], explain)
    at = locate(model, loc)
    if error["type"] == "missing":
        return at.path, _missing(at) + (explain(at, None, None) if explain is not None else "")
    text = wrong_container(at, error["type"], error["input"]) or expectation(error)
    # Only the config's own sections have reasons for their bounds.
    reasons: Mapping[tuple[str, str], str] = getattr(table_of(locate(model, at.section).annotation), "REASONS", {})
    if error["type"] in _BOUNDS and (reason := reasons.get((str(at.path[-1]), _BOUNDS[error["type"]][0]))):
        text = f"{text}: {reason}"
    where = place(at.section, at.key)
    return at.path, f"{where}: {text}" if where else text


def _unknown(model: type[BaseModel], loc: Loc, value: object, explain: Explain | None) -> tuple[Loc, str] | None:
    at, name = locate(model, loc[:-1]), str(loc[-1])
    table = next(filter(is_table, branches(at.annotation)), None)
    if table is not None and table.model_config.get("extra") in ("allow", "ignore"):
        return None
    known = keys(table) if table is not None else {}
    is_section = not at.path and isinstance(value, dict | list)
    hint = explain(at, name, value) if explain is not None else ""
    hint = (
        hint or did_you_mean(name, known) or f" {'Sections' if is_section else 'Keys'}: {', '.join(known) or 'none'}."
    )
    path = (*at.path, name)
    return path, f"[{name}]: unknown section.{hint}" if is_section else f"{place(at.path, (name,))}: unknown key.{hint}"


def _missing(at: Place) -> str:
    inner = table_of(at.annotation)
    if inner is None:
        return f"{place(at.section, at.key)}: this is missing"
    needed = ", ".join(field.alias or name for name, field in inner.model_fields.items() if field.is_required())
    return f"{place(at.path, ())}: this section is missing.{f' It needs: {needed}' if needed else ''}"


def wrong_container(at: Place, kind: str, value: object) -> str:
    """Return how to write a table, or a list of tables, that was written as the other, or as text; "" for other errors.

    kind: pydantic's type of the error.
    """
    if kind not in ("list_type", "tuple_type", "model_type", "dict_type"):
        return ""
    path = ".".join(part for part in at.path if isinstance(part, str))
    inner, is_list = table_of(at.annotation), kind in ("list_type", "tuple_type")
    takes_text = any(str in branches(entry) for branch in branches(at.annotation) for entry in get_args(branch))
    if is_list and inner is not None and isinstance(value, dict):
        return f"this is a list of tables: write [[{path}]], with two brackets"
    if is_list and inner is not None and not takes_text and isinstance(value, str):
        return f"this is a list of tables: write [[{path}]], and in it name = {inline(value)}"
    if is_list and isinstance(value, str):
        return f"this is a list: write {at.path[-1]} = [{inline(value)}]"
    if not is_list and isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        return f"this is one table: write [{path}], with one bracket"
    if inner is not None and isinstance(value, str):
        first = next(
            (field.alias or name for name, field in inner.model_fields.items() if field.annotation is str), None
        )
        if first is not None:
            return f"this is a table: write {{ {first} = {inline(value)} }}"
    return ""


def expectation(error: ErrorDetails) -> str:
    """Describe what is wrong: `expected an integer, got "512" (text)`; `must be at least 1, got 0`."""
    kind, context, got = error["type"], error.get("ctx", {}), f"got {shown(error['input'])}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, {got}"
    if kind in _BOUNDS:
        bound, text = _BOUNDS[kind]
        limit = context[bound]
        return f"{text.format(_limit(limit))}, {got}"
    if kind == "literal_error":
        words = [word.strip("' ") for word in context["expected"].replace(" or ", ",").split(",")]
        hint = did_you_mean(str(error["input"]), words)
        return f"expected {context['expected']}, {got}.{hint}" if hint else f"expected {context['expected']}, {got}"
    if kind == "value_error":  # raised by a validator of the model's author
        return str(context["error"])
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}, {got}"


def _limit(limit: object) -> str:
    if isinstance(limit, float):
        return f"{limit:g}"
    return f"{limit:,}" if isinstance(limit, int) and limit >= _LARGE else str(limit)


def shown(value: object) -> str:
    """Format a value as in TOML, with its type if that could be mistaken."""
    if isinstance(value, str):
        return f'"{_short(value)}" (text)'
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return f"a list {_short(inline(value))}"
    return _short(inline(value))


def inline(value: object) -> str:
    """Write a value as TOML, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(str(key))} = {inline(entry)}" for key, entry in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(inline, value))}]"
    return str(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
