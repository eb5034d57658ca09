"""Places in a config: the tables of a schema, and where in it a value of a file is."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel

Loc = tuple[int | str, ...]


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
class Place:
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


def locate(model: type[BaseModel], loc: Loc) -> Place:
    """Find a value by pydantic's `loc`, which also names the branches of unions."""
    at = Place((), (), model)
    for part in loc:
        choices = branches(at.annotation)
        holder = next((branch for branch in choices if _part(branch, part) is not None), None)
        if holder is not None:
            at = Place(at.path if is_table(holder) else at.section, (*at.path, part), _part(holder, part))
        elif len(choices) > 1:  # the name of a branch
            named = (branch for branch in choices if getattr(branch, "__name__", "") == part)
            at = Place(at.section, at.path, next(named, at.annotation))
        else:  # inside a value that pydantic checks by rules of its own
            at = Place(at.section, (*at.path, part), object)
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
