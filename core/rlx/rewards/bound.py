"""Bind a reward to its options, and check options and signature without making it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from rlx.errors import PluginError
from rlx.plugins.options import Options
from rlx.plugins.signature import accepted
from rlx.rewards.base import OFFERED


class BoundReward:
    """A reward with its options."""

    def __init__(self, target: Callable[..., object], args: Mapping[str, object]) -> None:
        options = reward_options(target).bind(args)
        if inspect.isclass(target):
            made: Any = target(**options)
            target, options = made, {}
        self._call = target
        self._options = options
        self.accepts = frozenset(accepted(self._call, dict.fromkeys(OFFERED)))
        """Those of OFFERED that it accepts."""
        self.names = frozenset(inspect.signature(self._call).parameters) & self.accepts
        """Those of `accepts` that its signature names: they must be loaded before the call."""
        self.group = bool(getattr(self._call, "group_reward", False))
        """Whether its author marked it as a group reward."""

    def __call__(self, evaluated: str | list[str], reference: object, offered: Mapping[str, object]) -> object:
        """Call the reward, and return its result unchecked."""
        taken = {name: value for name, value in offered.items() if name in self.accepts}
        return self._call(evaluated, reference, **taken, **self._options)


def reward_options(target: Callable[..., object]) -> Options:
    """Return the options of a reward: of a class's constructor, or a function's parameters that rlx does not pass."""
    if inspect.isclass(target):
        return Options(target)
    return Options(target, offered=OFFERED, positional=2, open_ended=False)


def accepted_offers(target: Callable[..., object]) -> frozenset[str]:
    """Return those of OFFERED that a reward accepts, without making it."""
    call = target.__call__ if inspect.isclass(target) else target
    return frozenset(accepted(call, dict.fromkeys(OFFERED)))


def check_reward_args(
    target: object, args: Mapping[str, object], *, owner: str, where: str = "[[rewards]] args"
) -> None:
    """Raise PluginError if `target` isn't a reward, ConfigError if `args` do not fit. Calls nothing."""
    if inspect.isclass(target):
        if "__call__" not in dir(target):
            raise PluginError(f"{owner} is a class whose instances can't be called.")
        reward_options(target).check(args, where=where, owner=owner)
        _check_call(target.__call__, owner, bound=1)
    elif callable(target):
        _check_call(target, owner)
        reward_options(target).check(args, where=where, owner=owner)
    else:
        raise PluginError(f"{owner} is a {type(target).__name__}, not a function.")


def _check_call(call: Callable[..., object], owner: str, bound: int = 0) -> None:
    """Raise PluginError unless it can be called with two positional arguments, after `bound` others (`self`)."""
    signature = inspect.signature(call)
    try:
        signature.bind_partial(*[None] * bound, "completion", "reference")
    except TypeError as error:
        taken = ", ".join(list(signature.parameters)[bound:])
        raise PluginError(
            f"{owner} takes ({taken}), but a reward gets the completion and the reference answer by position. "
            "Write it as `def reward(to_be_evaluated, reference=None, **kwargs)`."
        ) from error
