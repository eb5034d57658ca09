"""Broken rules of a contract, the error that lists them, and the boundary around a plugin's code.

A suite yields a `Broken` for each finding. `demand` turns them into one ContractError, so that an author sees all of
them at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rlx.errors import RlxError, described, foreign_frames

T = TypeVar("T")

SHOWN = 3
"""How many findings of one rule a message shows."""


@dataclass(frozen=True)
class Broken:
    """One broken rule: its name, the observation, and a suggestion (empty if the observation says enough)."""

    rule: str
    seen: str
    todo: str


class ContractError(AssertionError):
    """A plugin breaks rules of its contract. `broken` holds the findings, and the message lists them."""

    def __init__(self, subject: str, broken: Sequence[Broken], rules: Mapping[str, str]) -> None:
        self.broken = tuple(broken)
        count = len(self.rules)
        lines = [f"{subject} breaks {count} rule{'s' * (count > 1)} of its contract."]
        for rule in self.rules:
            findings = [one for one in broken if one.rule == rule]
            lines.append(f"{rule}: {rules[rule]}")
            for one in findings[:SHOWN]:
                lines.append(_indented("Seen: ", one.seen))
                lines += [_indented("Do:   ", one.todo)] if one.todo else []
            if len(findings) > SHOWN:
                lines.append(f"  ... and {len(findings) - SHOWN} more of this rule.")
        super().__init__("\n".join(lines))

    @property
    def rules(self) -> list[str]:
        """The names of the broken rules, without duplicates."""
        return list(dict.fromkeys(one.rule for one in self.broken))


@dataclass(frozen=True)
class Raised:
    """An exception that a plugin's code raised."""

    error: Exception | SystemExit

    def __str__(self) -> str:
        return error_with_line(self.error)


def demand(subject: str, rules: Mapping[str, str], broken: Iterable[Broken]) -> None:
    """Raise ContractError if `broken` yields anything."""
    __tracebackhide__ = True
    found = list(dict.fromkeys(broken))
    if found:
        raise ContractError(subject, found, rules)


def attempt(call: Callable[[], T]) -> T | Raised:
    """Call a plugin's code, and return its result or the exception that it raised."""
    try:
        return call()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the boundary: whatever a plugin raises is a finding
        return Raised(error)


def guarded(rule: str, todo: str, broken: Iterator[Broken]) -> Iterator[Broken]:
    """Yield from `broken`. If a plugin's code raises meanwhile, end with a finding for `rule`."""
    while not isinstance(one := attempt(lambda: next(broken, None)), Raised):
        if one is None:
            return
        yield one
    yield Broken(rule, str(one), todo)


def construct(
    cls: Callable[..., T], args: Mapping[str, object], subject: str, setup: Callable[[T], object] = id
) -> T | Broken:
    """Make a component with the config's `args` and call `setup` on it. Return it, or a finding for `options`."""
    from rlx.plugins.options import Options

    def make() -> T:
        options = Options(cls)
        options.check(args, where="args", owner=subject)
        component = cls(**options.bind(args))
        setup(component)
        return component

    target: object = cls
    if not callable(target):
        return Broken("options", f"it is a {type(target).__name__}", "Name the class.")
    made = attempt(make)
    if isinstance(made, Raised):
        return Broken("options", str(made), "Give it the args that a config would, or correct its constructor.")
    return made


def name_of(target: object) -> str:
    """Return `module:name` of a function or class; for an instance, that of its class."""
    if inspect.ismodule(target):
        return target.__name__
    named = target if inspect.isroutine(target) or inspect.isclass(target) else type(target)
    return f"{getattr(named, '__module__', '?')}:{getattr(named, '__qualname__', repr(named))}"


def error_with_line(error: BaseException) -> str:
    """Return an exception's text, and the line of the plugin's code that it comes from."""
    text = str(error) if isinstance(error, RlxError) else described(error).rstrip(": ")
    frames = foreign_frames(root_cause(error))
    return f"{text}\nat {frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}" if frames else text


def root_cause(error: BaseException) -> BaseException:
    """Follow the chain of `raise ... from ...` to its first exception."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def shortened(value: object, limit: int = 80) -> str:
    """Return the repr of a value, cut after `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def _indented(label: str, text: str) -> str:
    return f"  {label}" + text.replace("\n", "\n" + " " * (2 + len(label)))
