"""The policy's command loop: every rank executes each command that the controller sends to rank 0, in lockstep.

Rules:

* Rank 0 takes commands in the order of arrival and broadcasts the bytes of each; every rank executes it; rank 0 answers
  when all ranks have finished.
* While no command arrives, rank 0 broadcasts a no-op every few seconds, so no collective ever waits for long, and a
  rank that has exited is noticed.
* A command that fails on any rank ends the policy: ranks that are out of step can't be brought back in step.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable
from typing import Protocol

from rlx.policy.failures import FailureStore, root_cause
from rlx.policy.parallel.mesh import Ranks
from rlx.transport.messages import Message, Ok, Stop, decode, encode
from rlx.transport.sync_client import Command

IDLE_SECONDS = 10.0
_NO_OP = b""


class CommandSource(Protocol):
    """Source of the controller's commands on rank 0: a `SyncClient`, or a test's queue."""

    @property
    def commands(self) -> queue.Queue[Command]: ...


Handler = Callable[[Message], Message]
"""Executes a command and returns the answer."""


def serve_commands(ranks: Ranks, source: CommandSource | None, handle: Handler, failures: FailureStore) -> None:
    """Execute commands until `Stop`. Only rank 0 has a source. An error in `handle` is answered, then raised again."""
    while True:
        command: Command | None = None
        outgoing: bytes | None = None  # what rank 0 broadcasts; the other ranks receive it
        if source is not None:
            outgoing = _NO_OP
            with contextlib.suppress(queue.Empty):
                command = source.commands.get(timeout=IDLE_SECONDS)
                outgoing = encode(command.message)
        data = ranks.broadcast_bytes(outgoing)
        if data == _NO_OP:
            continue
        message = command.message if command else decode(data)
        stopping = isinstance(message, Stop)
        answer = Ok() if stopping else _execute(ranks, command, message, handle, failures)
        if command is not None:
            command.reply(answer)
        if stopping:
            return


def _execute(
    ranks: Ranks, command: Command | None, message: Message, handle: Handler, failures: FailureStore
) -> Message:
    try:
        answer = handle(message)
        # Answer only when every rank has finished the command.
        ranks.barrier()
    except Exception as error:  # the boundary of a command: report the error to its sender, then end the rank
        if command is not None:
            command.fail(root_cause(error, failures).error)
        raise
    return answer
