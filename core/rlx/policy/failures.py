"""How the failure of any rank becomes one message to the controller.

The rules of this part:

* Only rank 0 talks to the controller. Another rank that fails posts its reason in the rendezvous store and stays until
  rank 0 has told it: torch elastic ends all ranks as soon as one is gone.
* Rank 0 may be inside a collective that will never finish. A thread of its own watches the store, so the message leaves
  anyway, and the process with it.
* When rank 0's own collective breaks because another rank is gone, that rank's reason is the one to tell.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import msgspec

from rlx.errors import RlxError
from rlx.torch_private import Store
from rlx.transport.messages import Failed, Message

_KEY = "failed"
_TOLD = "told"
_POLL_SECONDS = 0.5
_GRACE_SECONDS = 2.0
_TOLD_SECONDS = 20.0
EXIT_CODE = 1


class Teller(Protocol):
    """What rank 0 tells the controller through."""

    def notify(self, message: Message) -> None: ...


def describe(error: BaseException) -> Failed:
    """The message that says why a rank cannot go on."""
    text = str(error) if isinstance(error, RlxError) else f"{type(error).__name__}: {error}"
    return Failed(text, owner=str(getattr(error, "owner", "")), traceback="".join(traceback.format_exception(error)))


def blame(error: BaseException, board: Board) -> Failed:
    """Why rank 0 cannot go on: what another rank posted, where its going broke a collective here; else `error`."""
    broken = isinstance(error, RuntimeError)
    return (board.read(wait=_GRACE_SECONDS) if broken else None) or describe(error)


class Board:
    """The place in the store where ranks leave the reason of their failure."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def post(self, rank: int, failure: Failed) -> None:
        """The first one stays."""
        named = msgspec.structs.replace(failure, error=f"policy rank {rank}: {failure.error}")
        if self._store.add(f"{_KEY}/count", 1) == 1:
            self._store.set(_KEY, msgspec.json.encode(named).decode())

    def read(self, wait: float = 0.0) -> Failed | None:
        """What was posted, waiting up to `wait` seconds for it."""
        deadline = time.monotonic() + wait
        while not self._store.check([_KEY]):
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.05)
        return msgspec.json.decode(self._store.get(_KEY), type=Failed)

    def mark_told(self) -> None:
        """The controller knows."""
        self._store.set(_TOLD, "1")

    def wait_told(self, seconds: float) -> None:
        """Returns when rank 0 has told the controller, or after so many seconds without it."""
        deadline = time.monotonic() + seconds
        while not self._store.check([_TOLD]) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS / 5)


@contextmanager
def reported(rank: int, board: Board, teller: Teller | None) -> Iterator[None]:
    """The boundary of a rank: what escapes is posted (or, by rank 0, told) and raised again."""
    try:
        yield
    except Exception as error:
        if teller is None:
            board.post(rank, describe(error))
            board.wait_told(_TOLD_SECONDS)
        else:
            teller.notify(blame(error, board))
            board.mark_told()
        raise


@contextmanager
def watch(board: Board, teller: Teller) -> Iterator[None]:
    """Meanwhile, tell the controller what another rank posts, and end this process."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(_POLL_SECONDS):
            failure = board.read()
            # The main thread may be about to tell it itself, and to answer the command that it failed at.
            if failure is not None and not done.wait(_GRACE_SECONDS):
                teller.notify(failure)
                board.mark_told()
                os._exit(EXIT_CODE)

    threading.Thread(target=look, name="rlx-failures", daemon=True).start()
    try:
        yield
    finally:
        done.set()
