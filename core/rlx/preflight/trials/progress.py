"""Report the parts of a check that take long: those that run plugin code, which may do anything."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST_SECONDS = 15.0
"""A part that takes longer is reported, and again each time that as many seconds have passed."""


class Progress:
    """Reports parts of the work that take long. May be used by several threads.

    say: takes one line of text; it is called in a thread of its own.
    """

    def __init__(self, say: Callable[[str], None], seconds: float = FIRST_SECONDS) -> None:
        self._say = say
        self._seconds = seconds

    def say(self, text: str) -> None:
        """Report a line of text."""
        self._say(text)

    @contextmanager
    def doing(self, work: str) -> Iterator[None]:
        """Report the block as `work` ("reading row 3 of dataset 'x'") while it takes long."""
        done, began = threading.Event(), time.monotonic()

        def report() -> None:
            while not done.wait(self._seconds):
                self._say(f"still {work}, for {time.monotonic() - began:.0f} s now")

        thread = threading.Thread(target=report, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def silent() -> Progress:
    """Return a Progress that reports nothing."""
    return Progress(lambda _: None)
