"""The config's `args` against the signature of what they are for, before anything is called.

Names and plain types are checked: an option that does not exist, one that is missing, text where a number belongs. What
a signature leaves open (no annotation, or one that pydantic can't check) is left to the component.

Where the only option of a signature is annotated with a pydantic model, `args` is that model's table, and the component
gets the model. Beside other options a model is a table of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

from rlx.errors import ConfigError, did_you_mean
from rlx.plugins.values import converted, model_in, value_problems

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
    unreachable = _unreachable(target, positional)
    if unreachable:
        raise ConfigError(
            f"{where}: {owner} takes {', '.join(unreachable)} by position only; make it a named argument."
        )
    options = options_of(target, offered=offered, positional=positional)
    whole = whole_model(target, options)
    if whole is not None:
        problems = value_problems(annotation_of(target, options[whole]), dict(args), "", owner)
    else:
        soak = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(target).parameters.values())
        problems = [
            *_unknown(options, args, offered, owner, anything=soak and open_ended),
            *_missing(options, args, owner),
            *_mistyped(target, options, args, owner),
        ]
    if problems:
        raise ConfigError("\n".join(f"{where}: {problem}" for problem in problems))


def bind_args(
    target: Callable[..., Any], args: Mapping[str, Any], *, offered: Sequence[str] = (), positional: int = 0
) -> dict[str, Any]:
    """`args` as keyword arguments of `target`, with an instance wherever a pydantic model is asked for."""
    options = options_of(target, offered=offered, positional=positional)
    whole = whole_model(target, options)
    if whole is not None:
        use_default = not args and options[whole].default is not inspect.Parameter.empty
        return {} if use_default else {whole: converted(annotation_of(target, options[whole]), dict(args))}
    known = {name: annotation_of(target, options[name]) for name in args if name in options}
    return {name: converted(known[name], value) if name in known else value for name, value in args.items()}


def options_of(target: Callable[..., Any], *, offered: Sequence[str] = (), positional: int = 0) -> Parameters:
    """The named parameters that rlx leaves to the config."""
    parameters = list(inspect.signature(target).parameters.values())
    by_place = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    taken = {p.name for p in by_place[:positional]} | set(offered)
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {p.name: p for p in named if p.name not in taken}


def whole_model(target: Callable[..., Any], options: Parameters) -> str | None:
    """The one option that stands for all of `args`, where there is such a one."""
    if len(options) != 1:
        return None
    ((name, parameter),) = options.items()
    return name if model_in(annotation_of(target, parameter)) is not None else None


def annotation_of(target: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The parameter's type; `Any` where it has none, or one that only a type checker can resolve."""
    if parameter.annotation is parameter.empty:
        return Any
    function = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    holder = type("Annotated", (), {"__annotations__": {parameter.name: parameter.annotation}})
    try:
        globalns = getattr(function, "__globals__", {})
        return get_type_hints(holder, globalns=globalns, include_extras=True)[parameter.name]
    except (NameError, AttributeError, TypeError):
        return Any


def _unreachable(target: Callable[..., Any], positional: int) -> list[str]:
    parameters = list(inspect.signature(target).parameters.values())
    by_place = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [p.name for p in by_place[positional:] if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]


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
    """`length: int=3`; an annotation that is text, as its author wrote it."""
    annotation = parameter.annotation
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    typed = "" if annotation is parameter.empty else f": {text}"
    return f"{parameter.name}{typed}{'' if parameter.default is parameter.empty else f'={parameter.default!r}'}"


def _missing(options: Parameters, args: Mapping[str, Any], owner: str) -> list[str]:
    required = [p.name for p in options.values() if p.default is p.empty and p.name not in args]
    return [f"{name!r} is required by {owner}." for name in required]


def _mistyped(target: Callable[..., Any], options: Parameters, args: Mapping[str, Any], owner: str) -> list[str]:
    return [
        problem
        for name, value in args.items()
        if name in options
        for problem in value_problems(annotation_of(target, options[name]), value, name, owner)
    ]
