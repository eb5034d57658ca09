"""Signals to the launcher: the first asks for a clean end, the second for an immediate one.

| signal | first | again |
|---|---|---|
| SIGINT (Ctrl-C), SIGTERM | finish the step, save, end | end at once |
| SIGHUP (the terminal is closed) | finish the step, save, end | nothing: shells and the kernel both send it |
| SIGQUIT (Ctrl-backslash) | end at once | |
| SIGUSR1 | save a checkpoint after the step, go on | the same |

Rules:

* SIGHUP and SIGQUIT that are ignored when the run starts (`nohup`) stay ignored.
* SIGUSR1 never ends a run: before there is something to save, and when the run is ending anyway, it does nothing.
* Signals that come before the first one was answered on the screen count as one with it: `timeout` and wrappers of
  commands send each signal to the process and to its group.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
SAVE = signal.SIGUSR1
SAVE_REASON = "SIGUSR1 in the launcher"
_MAY_BE_IGNORED = {signal.SIGHUP, signal.SIGQUIT}
_NAMES = {
    signal.SIGINT: "Ctrl-C in the launcher",
    signal.SIGTERM: "SIGTERM in the launcher",
    signal.SIGHUP: "SIGHUP in the launcher (its terminal was closed)",
    signal.SIGQUIT: "SIGQUIT in the launcher",
}


class Signals:
    """While entered, these signals are counted and have no other effect. Needs a running event loop."""

    def __init__(self) -> None:
        self._arrived: set[signal.Signals] = set()
        self._count = 0
        self._saves = False
        self._handlers: list[tuple[signal.Signals, _Handler]] = []
        self.reason = ""
        """The last signal, in words."""

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._handlers = [(number, signal.getsignal(number)) for number in _handled()]
        for number, _ in self._handlers:
            loop.add_signal_handler(number, self._arrive, number)
        self._handlers.append((SAVE, signal.getsignal(SAVE)))
        loop.add_signal_handler(SAVE, self._ask_to_save)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for number, handler in self._handlers:
            loop.remove_signal_handler(number)
            _restore(number, handler)

    def count(self) -> int:
        """Return 0 without a signal, 1 for a clean end, and 2 or more for an immediate one.

        The signals since the last call add one together.
        """
        if signal.SIGQUIT in self._arrived:
            self._count += 2
        elif self._arrived & {signal.SIGINT, signal.SIGTERM}:
            self._count += 1
        elif self._arrived:
            self._count = max(self._count, 1)
        self._arrived.clear()
        return self._count

    def take_save(self) -> bool:
        """Whether a checkpoint was asked for since the last call."""
        asked, self._saves = self._saves, False
        return asked

    def _ask_to_save(self) -> None:
        self._saves = True

    def _arrive(self, number: signal.Signals) -> None:
        self._arrived.add(number)
        self.reason = _NAMES[number]


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Make all these signals raise KeyboardInterrupt in this block, as Ctrl-C does: its clean-up is not skipped.

    SIGUSR1 does nothing: its default is to end the process.
    """

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(_NAMES[signal.Signals(number)])

    # A function in place of SIG_IGN, which programs that this one starts would inherit.
    before = signal.signal(SAVE, lambda _number, _frame: None)
    try:
        with _handlers(interrupt):
            yield
    finally:
        _restore(SAVE, before)


@contextmanager
def signals_ignored() -> Iterator[None]:
    """Ignore these signals in this block, which ends processes: a third Ctrl-C must not interrupt it."""
    with _handlers(signal.SIG_IGN):
        yield


_Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None


@contextmanager
def _handlers(handler: _Handler) -> Iterator[None]:
    before = [(number, signal.signal(number, handler)) for number in _handled()]
    try:
        yield
    finally:
        for number, previous in before:
            _restore(number, previous)


def _restore(number: signal.Signals, handler: _Handler) -> None:
    # None is a handler that was not set by Python, which can't set it again.
    signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _handled() -> list[signal.Signals]:
    """Return the signals that are handled: all, but for those that were ignored before and may be."""
    return [
        number for number in SIGNALS if number not in _MAY_BE_IGNORED or signal.getsignal(number) is not signal.SIG_IGN
    ]
