"""Run code of a plugin so that it can neither end the process nor hang without a word.

Rules:

* `os._exit` raises SystemExit, and a KeyboardInterrupt that no signal caused is an error of the plugin: the boundary
  around the block (`rlx.errors.attribute`) names the owner of both.
* A block that takes long is spoken of. It is never ended: a large package takes its time.
* A process that the plugin forks ends as it would without rlx.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

log = logging.getLogger(__name__)

SLOW_SECONDS = 10.0
"""After this time, and after each further multiple of six of it, the log says what is still going on."""


@contextlib.contextmanager
def contained(owner: str, doing: str) -> Iterator[None]:
    """Contain a block of a plugin's code; `doing` is what it does, as in "its import"."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_spoken_of(f"{owner}: {doing}"))
        # Signals reach the main thread only, and blocks of two threads would put each other's os._exit back.
        if threading.current_thread() is threading.main_thread():
            stack.enter_context(_no_exit())
            stack.enter_context(_own_interrupts())
        yield


@contextlib.contextmanager
def _spoken_of(what: str) -> Iterator[None]:
    done = threading.Event()

    def watch() -> None:
        waited, step = 0.0, SLOW_SECONDS
        while not done.wait(step):
            waited, step = waited + step, 6 * SLOW_SECONDS
            log.warning("%s is still going on after %g s.", what, waited)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()


@contextlib.contextmanager
def _no_exit() -> Iterator[None]:
    process, end = os.getpid(), os._exit

    def refuse(status: int) -> NoReturn:
        if os.getpid() != process:
            end(status)
        raise SystemExit(f"os._exit({status})")

    os._exit = refuse
    try:
        yield
    finally:
        os._exit = end


@contextlib.contextmanager
def _own_interrupts() -> Iterator[None]:
    """Turn a KeyboardInterrupt that the block raised itself, without a Ctrl-C, into a RuntimeError."""
    before = signal.getsignal(signal.SIGINT)
    pressed = before not in (signal.default_int_handler, signal.SIG_IGN)  # a handler of someone else may raise it

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.default_int_handler(number, frame)

    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except KeyboardInterrupt as error:
        if pressed:
            raise
        unasked = RuntimeError("KeyboardInterrupt, without a Ctrl-C")
        raise unasked.with_traceback(error.__traceback__) from error  # with the lines of the plugin
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, before)
