"""What a component lets the config set, for people (`rlx plugins show`) and for editors (`rlx schema`).

The truth is in the signature, read as `check_args` reads it. Kinds that take no `args` have no options.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

from rlx.datasets.open import is_factory, offered
from rlx.plugins.args import annotation_of, options_of, whole_model
from rlx.plugins.values import adapter_of, model_in
from rlx.rewards.base import OFFERED


@dataclass(frozen=True)
class Option:
    """One key of `args`; `table.key` inside a pydantic model's table."""

    name: str
    type: str
    required: bool
    default: Any = None
    """As JSON has it; the `repr` of what JSON has not."""
    doc: str = ""


@dataclass(frozen=True)
class _Call:
    """How rlx calls a component: what of its signature is not the config's to set."""

    offered: Sequence[str] = ()
    positional: int = 0
    open_ended: bool = True


def options(kind: str, target: Any) -> list[Option]:
    """Every option, in the signature's order."""
    call = _call(kind, target)
    if call is None:
        return []
    parameters = options_of(target, offered=call.offered, positional=call.positional)
    whole = whole_model(target, parameters)
    if whole is not None:
        model = model_in(annotation_of(target, parameters[whole]))
        assert model is not None
        return list(_of_model(model, ""))
    return [option for parameter in parameters.values() for option in _of_parameter(target, parameter)]


def args_schema(kind: str, target: Any, ref_template: str = "#/$defs/{model}") -> dict[str, Any]:
    """JSON Schema of `args`. Its own `$defs`, if it has any, are to be moved to where `ref_template` points."""
    call = _call(kind, target)
    if call is None:
        return {"type": "object", "additionalProperties": False}
    parameters = options_of(target, offered=call.offered, positional=call.positional)
    whole = whole_model(target, parameters)
    if whole is not None:
        return _schema(annotation_of(target, parameters[whole]), ref_template)
    properties = {p.name: _parameter_schema(target, p, ref_template) for p in parameters.values()}
    definitions = {name: part for one in properties.values() for name, part in one.pop("$defs", {}).items()}
    soak = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(target).parameters.values())
    return {
        "type": "object",
        "properties": properties,
        "required": [p.name for p in parameters.values() if p.default is p.empty],
        "additionalProperties": soak and call.open_ended,
        **({"$defs": definitions} if definitions else {}),
    }


def _call(kind: str, target: Any) -> _Call | None:
    """None: `args` has no place in the config, or the thing is an object and takes none."""
    if not callable(target):
        return None
    if kind == "datasets":
        return _Call(tuple(offered(target, None, None))) if is_factory(target) else None
    if kind == "rewards" and not inspect.isclass(target):
        return _Call(OFFERED, positional=2, open_ended=False)
    return _Call() if kind in ("rewards", "packers", "algorithms") else None


def _of_parameter(target: Any, parameter: inspect.Parameter) -> Iterator[Option]:
    annotation = annotation_of(target, parameter)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _of_model(annotation, f"{parameter.name}.")
        return
    required = parameter.default is parameter.empty
    yield Option(parameter.name, _type(annotation), required, None if required else _plain(parameter.default))


def _of_model(model: type[BaseModel], prefix: str) -> Iterator[Option]:
    for name, field in model.model_fields.items():
        key, annotation = f"{prefix}{field.alias or name}", field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _of_model(annotation, f"{key}.")
            continue
        required = field.is_required()
        default = None if required else _plain(field.get_default(call_default_factory=True, validated_data={}))
        yield Option(key, _type(annotation), required, default, " ".join((field.description or "").split()))


def _type(annotation: Any) -> str:
    """As one would write it, without the modules' names."""
    return re.sub(r"(?<!['\"\w.])(?:[A-Za-z_]\w*\.)+(?=\w)", "", inspect.formatannotation(annotation))


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else repr(value)


def _parameter_schema(target: Any, parameter: inspect.Parameter, ref_template: str) -> dict[str, Any]:
    schema = _schema(annotation_of(target, parameter), ref_template)
    default = _plain(parameter.default)
    return schema if parameter.default is parameter.empty else {**schema, "default": default}


def _schema(annotation: Any, ref_template: str) -> dict[str, Any]:
    """Empty, which allows everything, for a type that JSON Schema can't say."""
    adapter: TypeAdapter[Any] | None = adapter_of(annotation)
    try:
        return adapter.json_schema(ref_template=ref_template) if adapter is not None else {}
    except PydanticInvalidForJsonSchema:
        return {}
