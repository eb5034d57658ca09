"""Ctrl-C and SIGTERM, counted: the first asks for a clean end, the second for an immediate one."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """While entered, these signals are counted and have no other effect. Needs a running event loop."""

    def __init__(self) -> None:
        self.count = 0
        self.name = ""
        """Name of the last one."""

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._count, number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    def _count(self, number: signal.Signals) -> None:
        self.count += 1
        self.name = "Ctrl-C" if number == signal.SIGINT else number.name


@contextmanager
def signals_ignored() -> Iterator[None]:
    """Ignore these signals in this block, which ends processes: a third Ctrl-C must not interrupt it."""
    before = [(number, signal.signal(number, signal.SIG_IGN)) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
