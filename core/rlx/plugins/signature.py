"""How rlx calls what third parties write: by signature.

The rule of this part: what rlx offers (config, tokenizer, prompt ...) is passed only to a callable that takes it, so
that older and shorter forms work.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any

_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def parameters(call: Callable[..., Any]) -> list[Parameter]:
    """The parameters of a function, a method, or a class's constructor, `self` left out."""
    return list(inspect.signature(call).parameters.values())


def takes_any(call: Callable[..., Any]) -> bool:
    """Whether it has a `**kwargs`."""
    return any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters(call))


def named(call: Callable[..., Any]) -> dict[str, Parameter]:
    """The parameters that can be given by name."""
    return {parameter.name: parameter for parameter in parameters(call) if parameter.kind in _NAMED}


def accepted(call: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `offered` that the signature accepts: all of it where there is a `**kwargs`."""
    if takes_any(call):
        return dict(offered)
    known = named(call)
    return {name: value for name, value in offered.items() if name in known}
