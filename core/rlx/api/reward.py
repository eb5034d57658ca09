"""What a reward is, and how rlx calls one.

A reward is a function, or a class whose instances are called:

    def judge(to_be_evaluated: str, reference: Any = None, *, strict: bool = False, **kwargs: Any) -> float: ...

The rules of this part:

* It gets the completion's text, the row's reference answer, and of what is OFFERED as much as its signature takes.
* Its further named parameters are its options: the config's `args`. A class gets them in its constructor.
* It returns a number, or a number and a dict of metrics, or an awaitable of one of these. NaN, infinities and
  everything else are errors with the reward's name and the completion: never a 0.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from rlx.api.signature import accepted
from rlx.errors import PluginError, RewardError

OFFERED = ("prompt", "token_ids", "finish_reason", "tokenizer", "config", "example", "data_packer")
"""Keyword arguments that rlx passes to a reward that takes them.

prompt: the prompt as text. token_ids: the completion's tokens. finish_reason: `stop` or `length`. example: the
dataset's item. tokenizer, config, data_packer: the run's; a reward that names `tokenizer` or `data_packer` finds them
loaded, for one that only has `**kwargs` they load on first use, within that call's timeout.
"""

SHOWN_CHARACTERS = 300
"""How much of a completion an error shows."""


@dataclass(frozen=True)
class Score:
    """What a reward said of one completion."""

    value: float
    metrics: dict[str, float] = field(default_factory=dict)


class BoundReward:
    """A reward with its options, ready to be called."""

    def __init__(self, target: Any, args: Mapping[str, Any]) -> None:
        from rlx.plugins.args import bind_args

        if inspect.isclass(target):
            made: Any = target
            target, options = made(**bind_args(made, args)), {}
        else:
            options = bind_args(target, args, offered=OFFERED, positional=2)
        self._call: Callable[..., Any] = target
        self._options = options
        self.wants = frozenset(accepted(self._call, dict.fromkeys(OFFERED)))
        """Which of OFFERED it takes."""
        self.names = frozenset(inspect.signature(self._call).parameters) & self.wants
        """Which of them it names: it wants the real thing, at once."""

    def __call__(self, text: str, reference: Any, offered: Mapping[str, Any]) -> Any:
        """What the reward returns, not yet looked at."""
        taken = {name: value for name, value in offered.items() if name in self.wants}
        return self._call(text, reference, **taken, **self._options)


def check_reward_args(target: Any, args: Mapping[str, Any], *, owner: str, where: str = "[[rewards]] args") -> None:
    """Raises PluginError where `target` is no reward, ConfigError where `args` does not fit. Calls nothing."""
    from rlx.plugins.args import check_args

    if inspect.isclass(target):
        if "__call__" not in dir(target):
            raise PluginError(f"{owner} is a class whose instances can't be called.")
        check_args(target, args, where=where, owner=owner)
    elif callable(target):
        check_args(target, args, offered=OFFERED, positional=2, open_ended=False, where=where, owner=owner)
    else:
        raise PluginError(f"{owner} is a {type(target).__name__}, not a function.")


def score_of(result: Any, owner: str, text: str) -> Score:
    """What a reward returned (awaited already) as a Score. Raises RewardError with the owner and the completion."""
    value, metrics = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
    if not isinstance(metrics, Mapping):
        raise RewardError(_no_reward(owner, result, text), owner=owner)
    number = as_number(value)
    figures = {str(name): as_number(figure) for name, figure in metrics.items()}
    bad = [name for name, figure in figures.items() if figure is None]
    if number is None or not math.isfinite(number):
        raise RewardError(_no_reward(owner, value, text), owner=owner)
    if bad:
        raise RewardError(
            f"{owner} returned a metric that is no number: {bad[0]} = {metrics[bad[0]]!r:.80}", owner=owner
        )
    return Score(number, {name: figure for name, figure in figures.items() if figure is not None})


def as_number(value: Any) -> float | None:
    """A Python float of any real number, bool, or one-element array or tensor; None for everything else."""
    if isinstance(value, Real):
        return float(value)
    if hasattr(value, "item"):
        try:
            inner = value.item()
        except (ValueError, RuntimeError, TypeError):  # more than one element
            return None
        return float(inner) if isinstance(inner, Real) else None
    return None


def shown(text: str) -> str:
    """A completion for an error message: its beginning, on one line."""
    return repr(text) if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]!r}... ({len(text)} characters)"


def _no_reward(owner: str, value: Any, text: str) -> str:
    what = "None" if value is None else f"{type(value).__name__} {value!r:.80}"
    return (
        f"{owner} returned {what}, which is no reward. It must return a finite number, or (number, dict of numbers).\n"
        f"The completion: {shown(text)}"
    )
