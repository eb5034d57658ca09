"""Make components that have no options, and check that they have the methods that rlx calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlx.errors import PluginError, attribute


@dataclass(frozen=True)
class Contract:
    """How rlx makes a component and calls it. All arguments are passed by position."""

    made_with: tuple[str, ...] = ()
    """Arguments of the constructor."""
    methods: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Methods that it must have -> their arguments."""
    optional: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Methods that it may have -> their arguments."""

    @property
    def advice(self) -> str:
        """A sentence about the class to write."""
        methods = " and ".join(_call(name, arguments) for name, arguments in self.methods.items())
        return f"Write a class, made as {_call('cls', self.made_with)}, with the methods {methods}."


def make_object(target: object, arguments: Sequence[object], *, owner: str, contract: Contract) -> Any:
    """Call a class, or a function that makes an object. Raises PluginError if the result doesn't fit the contract."""
    if not callable(target):
        raise PluginError(f"{owner} is a {type(target).__name__}, and must be a class. {contract.advice}")
    if not _takes(target, contract.made_with):
        raise PluginError(f"{owner} takes {_signature(target)}. {contract.advice}")
    with attribute(owner, "its constructor"):
        made = target(*arguments)
    kind = "" if inspect.isclass(target) else f" returned a {type(made).__name__}, which"
    check_methods(made, contract, owner=f"{owner}{kind}")
    return made


def check_methods(made: object, contract: Contract, *, owner: str) -> None:
    """Raise PluginError if a method is missing, or can't be called as rlx does."""
    found = []
    for name, arguments in {**contract.methods, **contract.optional}.items():
        method = getattr(made, name, None)
        if not callable(method):
            if name in contract.methods:
                found.append(f"has no method {_call(name, arguments)}")
        elif not _takes(method, arguments):
            found.append(f"has {name}{_signature(method)}, which is called as {_call(name, arguments)}")
    if found:
        raise PluginError(f"{owner} {', and '.join(found)}. {contract.advice}")


def _takes(call: Callable[..., object], arguments: Sequence[str]) -> bool:
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):  # not every callable written in C has one
        return True
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _signature(call: Callable[..., object]) -> str:
    return f"({', '.join(inspect.signature(call).parameters)})"


def _call(name: str, arguments: Sequence[str]) -> str:
    return f"{name}({', '.join(arguments)})"
