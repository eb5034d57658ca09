"""Reports the failure of any policy rank to the controller, as one message.

Rules:

* Only rank 0 is connected to the controller. Another rank that fails posts its failure in the rendezvous store and
  stays until rank 0 has reported it: torch elastic ends all ranks as soon as one exits.
* Rank 0 may be inside a collective that never finishes. A thread of its own watches the store, so that the report is
  sent anyway, and then ends the process.
* If rank 0's own collective breaks because another rank has exited, that rank's failure is the one to report.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import msgspec

from rlx.torch_private import Store
from rlx.transport.failure import failure_message
from rlx.transport.messages import Failed, Message

_KEY = "failed"
_REPORTED = "reported"
_POLL_SECONDS = 0.5
_GRACE_SECONDS = 2.0
_REPORT_SECONDS = 20.0
_EXIT_CODE = 1


class Notifier(Protocol):
    """Rank 0's connection to the controller, for messages without an answer."""

    def notify(self, message: Message) -> None: ...


class FailureStore:
    """The failure that ends the policy, in the rendezvous store of its ranks."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def post(self, rank: int, failure: Failed) -> None:
        """Store the failure of a rank, unless another rank has stored one."""
        named = msgspec.structs.replace(failure, error=f"policy rank {rank}: {failure.error}")
        if self._store.add(f"{_KEY}/count", 1) == 1:
            self._store.set(_KEY, msgspec.json.encode(named).decode())

    def read(self, wait: float = 0.0) -> Failed | None:
        """Return the stored failure, waiting up to `wait` seconds for it."""
        deadline = time.monotonic() + wait
        while not self._store.check([_KEY]):
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.05)
        return msgspec.json.decode(self._store.get(_KEY), type=Failed)

    def mark_reported(self) -> None:
        """Record that the controller has been notified."""
        self._store.set(_REPORTED, "1")

    def wait_until_reported(self, seconds: float) -> None:
        """Return when rank 0 has notified the controller, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while not self._store.check([_REPORTED]) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS / 5)


def root_cause(error: BaseException, failures: FailureStore) -> Failed:
    """Return why rank 0 can't continue: another rank's failure if that broke a collective here, else `error`."""
    # A collective that broke raises RuntimeError. The failed rank may not have posted its failure yet.
    posted = failures.read(wait=_GRACE_SECONDS) if isinstance(error, RuntimeError) else None
    return posted or failure_message(error)


@contextmanager
def report_failure(rank: int, failures: FailureStore, controller: Notifier | None) -> Iterator[None]:
    """Boundary of a rank: report an escaping exception (rank 0) or post it for rank 0, and raise it again."""
    try:
        yield
    except Exception as error:  # the boundary: any error is reported before the rank exits
        if controller is None:
            failures.post(rank, failure_message(error))
            failures.wait_until_reported(_REPORT_SECONDS)
        else:
            controller.notify(root_cause(error, failures))
            failures.mark_reported()
        raise


@contextmanager
def watch_other_ranks(failures: FailureStore, controller: Notifier) -> Iterator[None]:
    """Run a thread that reports the failure of another rank to the controller, and ends this process."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_POLL_SECONDS):
            failure = failures.read()
            # The main thread may be about to report it itself, and to answer the command that failed because of it.
            if failure is not None and not done.wait(_GRACE_SECONDS):
                controller.notify(failure)
                failures.mark_reported()
                os._exit(_EXIT_CODE)

    threading.Thread(target=watch, name="rlx-failures", daemon=True).start()
    try:
        yield
    finally:
        done.set()
