"""What a reward is, and how rlx calls one.

A reward is a function, or a class whose instances are called:

    def judge(to_be_evaluated: str, reference: Any = None, *, strict: bool = False, **kwargs: Any) -> float: ...

The rules of this part:

* It gets the completion's text, the row's reference answer, and of what is OFFERED as much as its signature takes.
* Its further named parameters are its options: the config's `args`. A class gets them in its constructor.
* It returns a number, or a number and a dict of metrics, or an awaitable of one of these. NaN, infinities and
  everything else are errors with the reward's name and the completion: never a 0.
* One that is marked with `@rlx.group_reward` (or has `group = true` in the config) judges all completions of a prompt
  together: it gets the list of texts, `token_ids` and `finish_reason` as lists, and returns a list of as many numbers
  (None: not scored), or that and a list of dicts.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeVar

from rlx.errors import PluginError, RewardError
from rlx.plugins.signature import accepted

if TYPE_CHECKING:
    from rlx.plugins.options import Options

OFFERED = ("prompt", "token_ids", "finish_reason", "tokenizer", "config", "example", "data_packer")
"""Keyword arguments that rlx passes to a reward that takes them.

prompt: the prompt as text. token_ids: the completion's tokens. finish_reason: `stop` or `length`. example: the
dataset's item. tokenizer, config, data_packer: the run's; a reward that names `tokenizer` or `data_packer` finds them
loaded, for one that only has `**kwargs` they load on first use, within that call's timeout.
"""

SHOWN_CHARACTERS = 300
"""How much of a completion an error shows."""

ONE_RULE = "It must return a finite number, or (number, dict of numbers)."
LIST_HINT = " One that judges a prompt's completions together, in one call, is marked with @rlx.group_reward."
GROUP_RULE = (
    "It must return a list with one finite number (or None: not scored) for each completion, "
    "or that and a list of as many dicts of numbers."
)

AnyReward = TypeVar("AnyReward", bound=Callable[..., Any])


def group_reward(reward: AnyReward) -> AnyReward:
    """Marks a function or class that judges all completions of a prompt together, in one call."""
    reward.group_reward = True  # type: ignore[attr-defined]
    return reward


@dataclass(frozen=True)
class Score:
    """What a reward said of one completion; None: it did not score it."""

    value: float | None
    metrics: dict[str, float] = field(default_factory=dict)


class BoundReward:
    """A reward with its options, ready to be called."""

    def __init__(self, target: Any, args: Mapping[str, Any]) -> None:
        options = reward_options(target).bind(args)
        if inspect.isclass(target):
            target, options = target(**options), {}
        self._call: Callable[..., Any] = target
        self._options = options
        self.wants = frozenset(accepted(self._call, dict.fromkeys(OFFERED)))
        """Which of OFFERED it takes."""
        self.names = frozenset(inspect.signature(self._call).parameters) & self.wants
        """Which of them it names: it wants the real thing, at once."""
        self.group = bool(getattr(self._call, "group_reward", False))
        """Whether its author marked it as a group reward."""

    def __call__(self, evaluated: str | list[str], reference: Any, offered: Mapping[str, Any]) -> Any:
        """What the reward returns, not yet looked at."""
        taken = {name: value for name, value in offered.items() if name in self.wants}
        return self._call(evaluated, reference, **taken, **self._options)


def reward_options(target: Callable[..., object]) -> Options:
    """The options of a reward: those of a class's constructor, or a function's parameters that rlx does not pass."""
    from rlx.plugins.options import Options

    if inspect.isclass(target):
        return Options(target)
    return Options(target, offered=OFFERED, positional=2, open_ended=False)


def wanted(target: Any) -> frozenset[str]:
    """Which of OFFERED a reward takes that was not made yet."""
    call = target.__call__ if inspect.isclass(target) else target
    return frozenset(accepted(call, dict.fromkeys(OFFERED)))


def check_reward_args(target: Any, args: Mapping[str, Any], *, owner: str, where: str = "[[rewards]] args") -> None:
    """Raises PluginError where `target` is no reward, ConfigError where `args` does not fit. Calls nothing."""
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


def _check_call(call: Callable[..., Any], owner: str, bound: int = 0) -> None:
    """`bound`: how many of its first parameters are not the caller's (`self`)."""
    signature = inspect.signature(call)
    try:
        signature.bind_partial(*[None] * bound, "completion", "reference")
    except TypeError as error:
        taken = ", ".join(list(signature.parameters)[bound:])
        raise PluginError(
            f"{owner} takes ({taken}), but a reward gets the completion and the reference answer by position. "
            "Write it as `def reward(to_be_evaluated, reference=None, **kwargs)`."
        ) from error


def score_of(result: Any, owner: str, text: str) -> Score:
    """What a reward returned (awaited already) as a Score. Raises RewardError with the owner and the completion."""
    value, metrics = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
    hint = LIST_HINT if isinstance(value, list) else ""
    where = f"{ONE_RULE}{hint}\n{about([text])}"
    return Score(_number(value, owner, where), _figures(metrics, owner, where))


def scores_of(result: Any, owner: str, texts: Sequence[str]) -> list[Score]:
    """What a group reward returned (awaited already), a Score for each text. Raises RewardError with the owner."""
    values, metrics = result if isinstance(result, tuple) and len(result) == 2 else (result, [{}] * len(texts))
    lists = [_listed(values, owner, texts), _listed(metrics, owner, texts)]
    scores = []
    for number, (value, found, text) in enumerate(zip(*lists, texts, strict=True), 1):
        where = f"{GROUP_RULE}\nCompletion {number} of {len(texts)}: {shown(text)}"
        scores.append(Score(None if value is None else _number(value, owner, where), _figures(found, owner, where)))
    return scores


def _number(value: Any, owner: str, where: str) -> float:
    number = as_number(value)
    if number is None or not math.isfinite(number):
        raise RewardError(_no_reward(owner, value, where), owner=owner)
    return number


def _figures(metrics: Any, owner: str, where: str) -> dict[str, float]:
    if not isinstance(metrics, Mapping):
        raise RewardError(_no_reward(owner, metrics, where, "is no dict of metrics"), owner=owner)
    figures: dict[str, float] = {}
    for name, value in metrics.items():
        figure = as_number(value)
        if figure is None:
            raise RewardError(f"{owner} returned a metric that is no number: {name} = {value!r:.80}", owner=owner)
        figures[str(name)] = figure
    return figures


def _listed(found: Any, owner: str, texts: Sequence[str]) -> list[Any]:
    """One part of what a group reward returned: a list, or an array or tensor of one dimension."""
    parts = found.tolist() if hasattr(found, "tolist") else found
    if not isinstance(parts, list):
        raise RewardError(_no_reward(owner, found, f"{GROUP_RULE}\n{about(texts)}"), owner=owner)
    if len(parts) != len(texts):
        raise RewardError(
            f"{owner} returned {len(parts)} values for {len(texts)} completions. {GROUP_RULE}\n{about(texts)}",
            owner=owner,
        )
    return parts


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


def about(texts: Sequence[str]) -> str:
    """What a call was about, for an error message."""
    what = "The completion" if len(texts) == 1 else f"The first of its {len(texts)} completions"
    return f"{what}: {shown(texts[0])}"


def _no_reward(owner: str, value: Any, where: str, verdict: str = "is no reward") -> str:
    what = "None" if value is None else f"{type(value).__name__} {value!r:.80}"
    return f"{owner} returned {what}, which {verdict}. {where}"
