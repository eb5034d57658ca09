"""Turn pydantic's validation errors into messages: every problem of a table, in the words of the file.

Rules:

* One line for each problem, with the table and key as the user wrote them:
  `[policy.optimizer] lrr: unknown key. Did you mean 'lr'?`
* The sections of the config and the options of plugins (`rlx.plugins.options`) get the same texts.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from rlx.errors import did_you_mean

Loc = tuple[int | str, ...]

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
    model: type[BaseModel], errors: Iterable[ErrorDetails], origin: Callable[[Loc], str] | None = None
) -> list[str]:
    """Return one line for each value of `model` that is wrong.

    `origin` names the source of the value at a path if that was not the file.
    """
    lines: dict[Loc, str] = {}
    for error in errors:
        found = _problem(model, error)
        if found is not None:
            path, line = found
            # Each branch of a union reports the same value.
            lines.setdefault(path, f"{line}{origin(path)}" if origin is not None else line)
    # A union of text and a table reports a wrong table twice: it is not text, and a key of it is wrong.
    return [line for path, line in lines.items() if not any(path == other[: len(path)] != other for other in lines)]


def _problem(model: type[BaseModel], error: ErrorDetails) -> tuple[Loc, str] | None:
    loc = tuple(error["loc"])
    if error["type"] in UNKNOWN_KEY:
        return _unknown(model, loc, error["input"])
    at = _locate(model, loc)
    if error["type"] == "missing":
        return at.path, _missing(at)
    text = expectation(error)
    if reason := _reason(model, at, error["type"]):
        text = f"{text}: {reason}"
    where = place(at.section, at.key)
    return at.path, f"{where}: {text}" if where else text


def _unknown(model: type[BaseModel], loc: Loc, value: object) -> tuple[Loc, str] | None:
    at, name = _locate(model, loc[:-1]), str(loc[-1])
    table = next(filter(is_table, branches(at.annotation)), None)
    if table is not None and table.model_config.get("extra") in ("allow", "ignore"):
        return None
    known = keys(table) if table is not None else {}
    is_section = not at.path and isinstance(value, dict | list)
    elsewhere = [f"[{path}]" for path, other in tables(model) if path and name in keys(other)]
    if elsewhere:
        hint = f" It is a key of {' and of '.join(elsewhere)}."
    else:
        hint = f" {'Sections' if is_section else 'Keys'}: {', '.join(known) or 'none'}."
    hint = did_you_mean(name, known) or hint
    path = (*at.path, name)
    return path, f"[{name}]: unknown section.{hint}" if is_section else f"{place(at.path, (name,))}: unknown key.{hint}"


def _reason(model: type[BaseModel], at: _Place, kind: str) -> str:
    """Return why a key of a config section has the bound of that error, as its class says; "" if it doesn't."""
    table = table_of(_locate(model, at.section).annotation)
    # Only the config's own sections have reasons.
    reasons: Mapping[tuple[str, str], str] = getattr(table, "REASONS", {})
    return reasons.get((str(at.path[-1]), _BOUNDS[kind][0]), "") if kind in _BOUNDS else ""


def _missing(at: _Place) -> str:
    inner = table_of(at.annotation)
    if inner is None:
        return f"{place(at.section, at.key)}: this is missing"
    needed = ", ".join(field.alias or name for name, field in inner.model_fields.items() if field.is_required())
    return f"{place(at.path, ())}: this section is missing.{f' It needs: {needed}' if needed else ''}"


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


def place(section: Loc, key: Loc) -> str:
    """Name a key of a table: `[policy.optimizer] betas[0]`, `[[rewards]] number 2, name`."""
    names = ".".join(str(part) for part in section if isinstance(part, str))
    numbers = [part + 1 for part in section if isinstance(part, int)]
    inside = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).removeprefix(".")
    if numbers:
        return f"[[{names}]] number {numbers[-1]}" + (f", {inside}" if inside else "")
    return " ".join(filter(None, [f"[{names}]" if names else "", inside]))


def is_table(annotation: object) -> TypeGuard[type[BaseModel]]:
    """Return whether an annotation is a pydantic model."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def keys(table: type[BaseModel]) -> dict[str, object]:
    """Return the keys of a table, as written in the file, with their types."""
    return {field.alias or name: field.annotation for name, field in table.model_fields.items()}


def tables(model: type[BaseModel], path: str = "", above: Sequence[object] = ()) -> list[tuple[str, type[BaseModel]]]:
    """Return every table of the schema with its dotted path; that of the whole file is ``""``.

    above: the tables around `model`; one that holds itself is listed once.
    """
    found = [(path, model)]
    for key, annotation in keys(model).items():
        inner = table_of(annotation)
        if inner is not None and inner is not model and inner not in above:
            found.extend(tables(inner, f"{path}.{key}" if path else key, (*above, model)))
    return found


def table_of(annotation: object) -> type[BaseModel] | None:
    """Return the table that an annotation stands for, through `| None` and `list[...]`; None for other types."""
    for branch in branches(annotation):
        found = table_of(get_args(branch)[0]) if get_origin(branch) is list else branch
        if is_table(found):
            return found
    return None


@dataclass(frozen=True, slots=True)
class _Place:
    """The location of a value in a model."""

    section: Loc
    """Path of the innermost table that holds it."""
    path: Loc
    annotation: object
    """Its type."""

    @property
    def key(self) -> Loc:
        """Its path inside the table."""
        return self.path[len(self.section) :]


def _locate(model: type[BaseModel], loc: Loc) -> _Place:
    """Find a value by pydantic's `loc`, which also names the branches of unions."""
    at = _Place((), (), model)
    for part in loc:
        choices = branches(at.annotation)
        holder = next((branch for branch in choices if _part(branch, part) is not None), None)
        if holder is not None:
            at = _Place(at.path if is_table(holder) else at.section, (*at.path, part), _part(holder, part))
        elif len(choices) > 1:  # the name of a branch
            named = (branch for branch in choices if getattr(branch, "__name__", "") == part)
            at = _Place(at.section, at.path, next(named, at.annotation))
        else:  # inside a value that pydantic checks by rules of its own
            at = _Place(at.section, (*at.path, part), object)
    return at


def _part(annotation: object, part: int | str) -> object | None:
    """Return the type of an item of a container type; None if it has no such item."""
    if is_table(annotation):
        return keys(annotation).get(str(part))
    origin, arguments = get_origin(annotation), get_args(annotation)
    if not arguments or not isinstance(origin, type):
        return None
    if issubclass(origin, Mapping):
        return arguments[-1] if isinstance(part, str) else None
    if not isinstance(part, int):
        return None
    fixed = issubclass(origin, tuple) and arguments[-1] is not Ellipsis and part < len(arguments)
    found: object = arguments[part if fixed else 0]
    return found


def branches(annotation: object) -> tuple[object, ...]:
    """Return the alternatives of a union; for any other type, the type itself."""
    if get_origin(annotation) is Annotated:
        return branches(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(inner for branch in get_args(annotation) for inner in branches(branch))
    return (annotation,)
