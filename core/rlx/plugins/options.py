"""Options of components: check the config's `args` against the signature of the class or function that takes them.

Rules:

* A signature becomes a pydantic model with a field for each option. The model checks `args`, and is what
  `rlx plugins show` lists and `rlx schema` writes. Messages are those of the config's sections.
* Pydantic's strict JSON mode fits TOML: a list may become a tuple or a set, but text is never a number.
* A parameter without annotation, or with one that pydantic can't check, takes any value.
* A pydantic model as the only option stands for all of `args`; beside other options it is a table of its own. The
  component gets an instance. Unknown keys are refused unless the model itself has `extra="allow"` or `"ignore"`.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import Parameter
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    JsonValue,
    PydanticUndefinedAnnotation,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    create_model,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import ErrorDetails, core_schema

from rlx.config.errors import UNKNOWN_KEY, inline, problems, report
from rlx.config.places import Place, branches, is_table, keys
from rlx.config.unknown import explain_option
from rlx.errors import ConfigError, attribute
from rlx.plugins.contain import contained
from rlx.plugins.signature import named, parameters, takes_any

Made = TypeVar("Made")

_as_json = partial(json.dumps, default=str)


@dataclass(frozen=True)
class Option:
    """One key of `args`; `table.key` inside a pydantic model's table."""

    name: str
    type: str
    required: bool
    default: JsonValue = None
    """As JSON has it; the `repr` of a value that JSON can't hold."""
    doc: str = ""

    def __str__(self) -> str:
        """Return `ratio: "policy" | "sampler" = "policy"`."""
        default = "" if self.required or self.default is None else f" = {inline(self.default)}"
        return f"{self.name}: {self.type}{default}{' (required)' if self.required else ''}"


class Options:
    """The named parameters of a component that rlx leaves to the config."""

    def __init__(
        self,
        target: Callable[..., object],
        *,
        offered: Sequence[str] = (),
        positional: int = 0,
        open_ended: bool = True,
    ) -> None:
        """Read the signature of `target`, which rlx calls as `target(*positional, **offered, **args)`.

        offered: names that rlx itself passes to a signature that has them; the config may not set them.
        positional: how many leading arguments rlx passes by position.
        open_ended: whether `**kwargs` takes options (a dataset that passes them on) or only absorbs what is offered
        (a reward); then every option must be a named parameter.
        """
        by_position = [p for p in parameters(target) if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        taken = {p.name for p in by_position[:positional]} | set(offered)
        options = [p for name, p in named(target).items() if name not in taken]
        annotations = {p.name: _annotation(target, p) for p in options}
        self._unreachable = [p.name for p in by_position[positional:] if p.kind is p.POSITIONAL_ONLY and _required(p)]
        self._offered = offered
        self._whole: Parameter | None = None
        """The only option, if it is a pydantic model: it stands for all of `args`."""
        if len(options) == 1 and (model := _model_of(annotations[options[0].name])) is not None:
            self._whole, self._model = options[0], model
        else:
            self._model = _derived(options, annotations, extra=takes_any(target) and open_ended)

    def check(self, args: Mapping[str, object], *, where: str, owner: str) -> None:
        """Raise ConfigError with every problem of `args`; `where` is their place, as in `[dataset] args`."""
        if self._unreachable:
            names = ", ".join(self._unreachable)
            raise ConfigError(f"{where}: {owner} takes {names} by position only; make it a named argument.")
        if self._use_default(args):
            return
        given = [] if self._whole else [name for name in args if name in self._offered]
        lines = [f"{name}: rlx sets this itself; it can't be chosen" for name in given]
        values = {name: value for name, value in args.items() if name not in given}
        try:
            self._model.model_validate_json(_as_json(values), strict=True, extra="forbid")
        except ValidationError as error:
            wrong = filter(self._concerns_args, error.errors(include_url=False))
            lines += problems(self._model, wrong, explain=partial(self._explain, where))
        if lines:
            raise ConfigError(report(f"{where} of {owner}", lines))

    def bind(self, args: Mapping[str, object]) -> dict[str, object]:
        """Return `args` as keyword arguments, with instances of the pydantic models that the signature asks for."""
        if self._use_default(args):
            return {}
        if self._whole is not None:
            return {self._whole.name: self._model.model_validate_json(_as_json(dict(args)), strict=True)}
        types = keys(self._model)
        if not any(_holds_model(types.get(name)) for name in args):
            return dict(args)
        made = self._model.model_validate_json(_as_json(dict(args)), strict=True)
        fields = self._model.model_fields.items()
        models = {field.alias: getattr(made, name) for name, field in fields if _holds_model(field.annotation)}
        return {name: models.get(name, value) for name, value in args.items()}

    def shown(self) -> list[Option]:
        """Return every option, in the signature's order."""
        return list(_shown(self._model, ""))

    def json_schema(self, ref_template: str = "#/$defs/{model}") -> JsonSchemaValue:
        """Return the JSON Schema of `args`. The caller moves its `$defs`, if any, to the place in `ref_template`."""
        schema = self._model.model_json_schema(ref_template=ref_template, schema_generator=_JsonSchema)
        if not self._use_default({}) or "required" not in schema:
            return schema
        definitions = schema.pop("$defs", {})
        return {"type": "object", "anyOf": [{"maxProperties": 0}, schema], "$defs": definitions}

    @property
    def names(self) -> list[str]:
        """The keys of `args`."""
        return list(keys(self._model))

    @property
    def open_ended(self) -> bool:
        """Whether keys of any other name are taken, too."""
        return self._model.model_config.get("extra") == "allow"

    def _explain(self, where: str, at: Place, name: str | None, value: object) -> str:  # noqa: ARG002 - as Explain
        """Return a sentence about an unknown key; "" for one inside a table, and for a missing key."""
        if name is None or at.path:
            return ""
        return explain_option(where, self._model, name, ", ".join(map(str, self.shown())) or "none")

    def _use_default(self, args: Mapping[str, object]) -> bool:
        return self._whole is not None and not args and not _required(self._whole)

    def _concerns_args(self, error: ErrorDetails) -> bool:
        """Return False for unknown keys of a TypedDict or dataclass: the component gets the dict itself."""
        loc = error["loc"]
        inside = self._whole is None and len(loc) > 1 and not _holds_model(keys(self._model)[str(loc[0])])
        return not (inside and error["type"] in UNKNOWN_KEY)


def make(target: Callable[..., Made], args: Mapping[str, object], *, where: str, owner: str) -> Made:
    """Call a class or function with the config's `args`; `where` is their place in the config.

    Raises ConfigError if the args do not fit or `target` refuses them (ValueError), and PluginError for anything else
    that it raises.
    """
    options = Options(target)
    options.check(args, where=where, owner=owner)
    with attribute(owner, "its constructor"), contained(owner, "its constructor"):
        try:
            return target(**options.bind(args))
        except ValueError as error:
            raise ConfigError(f"{where} of {owner}: {error}") from error


def _derived(options: Sequence[Parameter], annotations: Mapping[str, object], *, extra: bool) -> type[BaseModel]:
    # Fields are numbered, and the options are their aliases: an option may be called `schema`, `json` or `_x`, which
    # pydantic would not have as names of fields.
    fields: dict[str, Any] = {}
    for number, parameter in enumerate(options):
        field = Field(alias=parameter.name)
        if not _required(parameter):
            # The default comes from a factory because pydantic copies a plain one.
            shown: dict[str, JsonValue] = {"default": _plain(parameter.default)}
            factory = partial(getattr, parameter, "default")
            field = Field(alias=parameter.name, default_factory=factory, json_schema_extra=shown)
        fields[f"option_{number}"] = (annotations[parameter.name], field)
    return create_model("args", __config__=ConfigDict(extra="allow" if extra else "forbid"), **fields)


def _required(parameter: Parameter) -> bool:
    return parameter.default is Parameter.empty


class _Unchecked:
    """Marks a type that pydantic can't check: any value will do."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.any_schema()


class _JsonSchema(GenerateJsonSchema):
    """Writes no titles, and `{}`, which allows everything, for a type that JSON Schema can't express."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - pydantic's signature
        return False

    def handle_invalid_for_json_schema(
        self,
        schema: core_schema.CoreSchema,  # noqa: ARG002 - pydantic's signature
        error_info: str,  # noqa: ARG002
    ) -> JsonSchemaValue:
        return {}


def _annotation(target: Callable[..., object], parameter: Parameter) -> object:
    """Return the parameter's type; `Any` if it has none, or one that only a type checker can resolve."""
    if parameter.annotation is Parameter.empty:
        return Any
    function = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    holder = type("Annotated", (), {"__annotations__": {parameter.name: parameter.annotation}})
    try:
        globalns = getattr(function, "__globals__", {})
        found = get_type_hints(holder, globalns=globalns, include_extras=True)[parameter.name]
    except (NameError, AttributeError, TypeError):
        return Any
    try:
        TypeAdapter(found)
    except (PydanticUserError, PydanticUndefinedAnnotation):
        return Annotated[found, _Unchecked()]
    return found


def _model_of(annotation: object) -> type[BaseModel] | None:
    """Return the model behind `Model` or `Model | None`."""
    found = [branch for branch in branches(annotation) if branch is not type(None)]
    return found[0] if len(found) == 1 and is_table(found[0]) else None


def _holds_model(annotation: object) -> bool:
    return is_table(annotation) or any(map(_holds_model, get_args(annotation)))


def _shown(model: type[BaseModel], prefix: str) -> Iterator[Option]:
    for name, field in model.model_fields.items():
        key, annotation = f"{prefix}{field.alias or name}", field.annotation
        if is_table(annotation):
            yield from _shown(annotation, f"{key}.")
            continue
        required = field.is_required()
        default = None if required else _plain(field.get_default(call_default_factory=True, validated_data={}))
        yield Option(key, type_text(annotation), required, default, " ".join((field.description or "").split()))


def type_text(annotation: object) -> str:
    """Write a type as one would in a signature: without the names of modules, and with the values of a Literal."""
    if get_origin(annotation) is Annotated:
        return type_text(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return " | ".join(map(inline, get_args(annotation)))
    if len(alternatives := branches(annotation)) > 1:
        return " | ".join("None" if branch is type(None) else type_text(branch) for branch in alternatives)
    written = inspect.formatannotation(annotation)
    if get_origin(annotation) in (list, dict, tuple) and get_args(annotation):
        inner = ", ".join("..." if part is Ellipsis else type_text(part) for part in get_args(annotation))
        written = f"{written.partition('[')[0]}[{inner}]"
    return re.sub(r"(?<!['\"\w.])(?:[A-Za-z_]\w*\.)+(?=\w)", "", written)


def _plain(value: object) -> JsonValue:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else repr(value)
