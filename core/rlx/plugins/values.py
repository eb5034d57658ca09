"""One value of `args` against the annotation of its parameter.

The rules of this part:

* JSON's strict mode fits TOML: a list may be a tuple or a set, but text is never a number.
* An annotation that pydantic can't check leaves the value to the component.
* Where the annotation holds a pydantic model of the plugin, the component gets an instance. Keys that the model does
  not have are refused, unless the model itself says what becomes of them (`extra`).
"""

from __future__ import annotations

import json
import types
from functools import partial
from typing import Any, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import ErrorDetails

from rlx.config.errors import Loc, expectation, keys
from rlx.errors import did_you_mean

_as_json = partial(json.dumps, default=str)


def value_problems(annotation: Any, value: Any, name: str, owner: str) -> list[str]:
    """What is wrong with the value of option `name`; with name "" it is the whole of `args`."""
    adapter = adapter_of(annotation)
    if adapter is None:
        return []
    try:
        adapter.validate_json(_as_json(value), strict=True, extra="forbid" if holds_model(annotation) else None)
    except ValidationError as error:
        details = error.errors(include_url=False)
        # Of a union each branch reports; the first one is as good as any.
        details = details if holds_model(annotation) else details[:1]
        problems = [_problem(annotation, detail, name, owner) for detail in details]
        return list(dict.fromkeys(filter(None, problems)))
    return []


def converted(annotation: Any, value: Any) -> Any:
    """The value as the component gets it: with instances of the plugin's models, else as it is."""
    return TypeAdapter(annotation).validate_json(_as_json(value), strict=True) if holds_model(annotation) else value


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model behind `Model` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    branches = [branch for branch in get_args(annotation) if branch is not type(None)] if _is_union(annotation) else []
    return model_in(branches[0]) if len(branches) == 1 else None


def holds_model(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return True
    return any(map(holds_model, get_args(annotation)))


def adapter_of(annotation: Any) -> TypeAdapter[Any] | None:
    """None where pydantic can't check that type."""
    try:
        return TypeAdapter(annotation, config=ConfigDict(strict=True))
    except PydanticSchemaGenerationError:
        return None
    except PydanticUserError:  # a type with its own config; it is checked by its own rules
        return TypeAdapter(annotation)


def _problem(annotation: Any, error: ErrorDetails, name: str, owner: str) -> str | None:
    loc = tuple(error["loc"])
    if error["type"] in ("extra_forbidden", "missing"):
        place, holder = _follow(annotation, loc[:-1], name)
        place = f"{place}.{loc[-1]}" if place else str(loc[-1])
        required = error["type"] == "missing"
        return f"{place!r} is required by {owner}." if required else _unknown(model_in(holder), place, owner)
    place, _ = _follow(annotation, loc, name)
    text = str(error["ctx"]["error"]) if error["type"] == "value_error" else expectation(error)
    end = "" if text.endswith((".", "?")) else "."
    return f"{place}: {text}{end}" if place else f"{text}{end}"


def _unknown(model: type[BaseModel] | None, place: str, owner: str) -> str | None:
    if model is None:
        return f"{place!r} is not an option of {owner}."
    if model.model_config.get("extra") in ("allow", "ignore"):
        return None
    table, _, key = place.rpartition(".")
    known = keys(model)
    whose = f"The options of {table!r}" if table else "Its options"
    return f"{place!r} is not an option of {owner}.{did_you_mean(key, known)} {whose}: {', '.join(known) or 'none'}."


def _follow(annotation: Any, loc: Loc, name: str) -> tuple[str, Any]:
    """Where `loc` is, as a user would write it, and the annotation of what lies there."""
    place = name
    for part in loc:
        found = _step(annotation, part)
        if found is None:  # pydantic's label of a union's branch
            annotation = next((b for b in get_args(annotation) if getattr(b, "__name__", "") == part), annotation)
            continue
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else part
        annotation = found
    return place, annotation


def _step(annotation: Any, part: int | str) -> Any:
    """The annotation of what lies at `part` of a value; None where there is no such part."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return keys(annotation).get(str(part))
    branches = get_args(annotation)
    if _is_union(annotation):
        return next((found for branch in branches if (found := _step(branch, part)) is not None), None)
    fits = isinstance(part, str if get_origin(annotation) is dict else int)
    return branches[-1] if branches and fits else None


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)
