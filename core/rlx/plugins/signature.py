"""Call plugin functions with the arguments that their signatures accept.

Rule: rlx passes what it offers (config, tokenizer, prompt ...) only to a callable that takes it, so that older and
shorter signatures keep working.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import TypeVar

Value = TypeVar("Value")


def parameters(call: Callable[..., object]) -> list[Parameter]:
    """Return the parameters of a function, a method, or a class's constructor, without `self`."""
    return list(inspect.signature(call).parameters.values())


def takes_any(call: Callable[..., object]) -> bool:
    """Return whether the signature has `**kwargs`."""
    return any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters(call))


def named(call: Callable[..., object]) -> dict[str, Parameter]:
    """Return the parameters that can be given by name."""
    kinds = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return {parameter.name: parameter for parameter in parameters(call) if parameter.kind in kinds}


def accepted(call: Callable[..., object], offered: Mapping[str, Value]) -> dict[str, Value]:
    """Return the part of `offered` that the signature accepts: all of it if that has `**kwargs`."""
    if takes_any(call):
        return dict(offered)
    known = named(call)
    return {name: value for name, value in offered.items() if name in known}
