"""What a suite says of a plugin that breaks its contract.

A rule has a short name and a sentence (each suite's RULES). What a suite finds is a stream of `Broken`; `demand` turns
it into one error, so that an author sees everything at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlx.errors import RlxError, foreign_frames

if TYPE_CHECKING:
    from rlx.config.schema import Config

SHOWN = 3
"""How many breaks of one rule a message shows."""


@dataclass(frozen=True)
class Broken:
    """One broken rule: its name, what was seen, and what to do about it (empty where that is said already)."""

    rule: str
    seen: str
    todo: str


class ContractError(AssertionError):
    """A plugin breaks rules of its contract; `broken` has them, the message lists them."""

    def __init__(self, subject: str, broken: Sequence[Broken], rules: Mapping[str, str]) -> None:
        self.broken = tuple(broken)
        super().__init__(_message(subject, self.broken, rules))

    @property
    def rules(self) -> list[str]:
        """The names of the broken rules, each once."""
        return list(dict.fromkeys(one.rule for one in self.broken))


def demand(subject: str, rules: Mapping[str, str], broken: Iterable[Broken]) -> None:
    """Raises ContractError where anything is broken."""
    __tracebackhide__ = True
    found = list(dict.fromkeys(broken))
    if found:
        raise ContractError(subject, found, rules)


def guarded(rule: str, todo: str, broken: Iterable[Broken]) -> Iterator[Broken]:
    """`broken`, and what a plugin raised while it was looked at, as a break of `rule`."""
    try:
        yield from broken
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the boundary: a plugin's code ran; it is reported
        yield Broken(rule, told(error), todo)


def _message(subject: str, broken: Sequence[Broken], rules: Mapping[str, str]) -> str:
    names = list(dict.fromkeys(one.rule for one in broken))
    head = f"{subject} breaks {len(names)} rule{'s' * (len(names) > 1)} of its contract."
    paragraphs = (_paragraph(name, rules[name], [one for one in broken if one.rule == name]) for name in names)
    return "\n".join([head, *paragraphs])


def _paragraph(name: str, rule: str, broken: Sequence[Broken]) -> str:
    lines = [f"{name}: {rule}"]
    for one in broken[:SHOWN]:
        lines += [_indented("Seen: ", one.seen), *([_indented("Do:   ", one.todo)] if one.todo else [])]
    more = len(broken) - SHOWN
    return "\n".join([*lines, *([f"  ... and {more} more of this rule."] if more > 0 else [])])


def _indented(label: str, text: str) -> str:
    return f"  {label}" + text.replace("\n", "\n" + " " * (2 + len(label)))


def made(
    target: Any, args: Mapping[str, Any], owner: str, into: list[Any], then: Callable[[Any], object] = id
) -> Iterator[Broken]:
    """What a class makes of the config's `args`, put into a list; `then` is done to it first."""
    from rlx.plugins.options import Options

    if not callable(target):
        yield Broken("options", f"it is a {type(target).__name__}", "Name the class.")
        return
    options = Options(target)
    options.check(args, where="args", owner=owner)
    component = target(**options.bind(args))
    then(component)
    into.append(component)


def name_of(target: Any) -> str:
    """`module:name` of a function or class; for an instance, that of its class."""
    named = target if inspect.isroutine(target) or inspect.isclass(target) else type(target)
    if inspect.ismodule(target):
        return str(target.__name__)
    return f"{getattr(named, '__module__', '?')}:{getattr(named, '__qualname__', repr(named))}"


def told(error: BaseException) -> str:
    """An error, with the line of the plugin's own code that it came from."""
    text = str(error) if isinstance(error, RlxError) else f"{type(error).__name__}: {error}".rstrip(": ")
    frames = foreign_frames(origin(error))
    return f"{text}\nat {frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}" if frames else text


def origin(error: BaseException) -> BaseException:
    """The error that an error was raised from, and so on."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def example_config() -> Config:
    """A config such as a plugin may be given; everything that has a default has it."""
    from rlx.config.schema import Config

    return Config.model_validate({"model": {"path": "a-model"}, "dataset": {"name": "a-dataset"}})
