"""The config's `args` against the signature of what they are for, before anything is called.

Names and plain types are checked: an option that does not exist, one that is missing, text where a number belongs. What
a signature leaves open (no annotation, or one that pydantic can't check) is left to the component.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from rlx.config.errors import expectation
from rlx.errors import ConfigError, did_you_mean

Parameters = Mapping[str, inspect.Parameter]


def check_args(
    target: Callable[..., Any],
    args: Mapping[str, Any],
    *,
    offered: Sequence[str] = (),
    positional: int = 0,
    open_ended: bool = True,
    where: str,
    owner: str,
) -> None:
    """Raises ConfigError unless `target(*positional, **offered, **args)` would bind.

    offered: names that rlx itself passes, if the signature has them; the config may not.
    positional: how many leading arguments rlx passes by position.
    open_ended: whether `**kwargs` stands for options (a dataset that hands them on) or only soaks up what is offered
    (a reward); then an option must be a named parameter.
    where: the place in the config, as in `[dataset] args`.
    """
    parameters = _options(target, offered, positional, where, owner)
    soak = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(target).parameters.values())
    problems = [
        *_unknown(parameters, args, offered, owner, anything=soak and open_ended),
        *_missing(parameters, args, owner),
        *_mistyped(target, parameters, args),
    ]
    if problems:
        raise ConfigError("\n".join(f"{where}: {problem}" for problem in problems))


def _options(target: Callable[..., Any], offered: Sequence[str], positional: int, where: str, owner: str) -> Parameters:
    parameters = list(inspect.signature(target).parameters.values())
    by_place = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    taken = {p.name for p in by_place[:positional]} | set(offered)
    unreachable = [p.name for p in by_place[positional:] if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]
    if unreachable:
        raise ConfigError(
            f"{where}: {owner} takes {', '.join(unreachable)} by position only; make it a named argument."
        )
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {p.name: p for p in named if p.name not in taken}


def _unknown(
    options: Parameters, args: Mapping[str, Any], offered: Sequence[str], owner: str, *, anything: bool
) -> list[str]:
    problems = []
    for name in args:
        if name in offered:
            problems.append(f"{name!r} is given by rlx itself and can't be set.")
        elif name not in options and not anything:
            known = ", ".join(_shown(p) for p in options.values()) or "none"
            hint = did_you_mean(name, options)
            problems.append(f"{name!r} is not an option of {owner}.{hint} Its options: {known}.")
    return problems


def _shown(parameter: inspect.Parameter) -> str:
    return str(parameter).replace(" = ", "=")


def _missing(options: Parameters, args: Mapping[str, Any], owner: str) -> list[str]:
    required = [p.name for p in options.values() if p.default is p.empty and p.name not in args]
    return [f"{name!r} is required by {owner}." for name in required]


def _mistyped(target: Callable[..., Any], options: Parameters, args: Mapping[str, Any]) -> list[str]:
    problems = []
    for name, value in args.items():
        if name in options and (problem := _type_problem(target, options[name], value)):
            problems.append(f"{name}: {problem}.")
    return problems


def _type_problem(target: Callable[..., Any], parameter: inspect.Parameter, value: Any) -> str | None:
    adapter = _adapter(_annotation(target, parameter))
    if adapter is None:
        return None
    try:
        # JSON's strict mode fits TOML: a list may be a tuple or a set, but text is never a number.
        adapter.validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        return expectation(error.errors(include_url=False)[0])
    return None


def _annotation(target: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The parameter's type; `Any` where it has none, or one that only a type checker can resolve."""
    if parameter.annotation is parameter.empty:
        return Any
    function = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    holder = type("Annotated", (), {"__annotations__": {parameter.name: parameter.annotation}})
    try:
        return get_type_hints(holder, globalns=getattr(function, "__globals__", {}))[parameter.name]
    except (NameError, AttributeError, TypeError):
        return Any


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(annotation, config=ConfigDict(strict=True))
    except PydanticSchemaGenerationError:
        return None
    except PydanticUserError:  # a type with its own config; it is checked by its own rules
        return TypeAdapter(annotation)
