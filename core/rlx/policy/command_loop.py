"""The policy's command loop: what the controller asks of rank 0, all ranks do, in lockstep.

The rules of this part:

* Rank 0 takes commands in the order of arrival and broadcasts each one's bytes; every rank executes it; rank 0
  answers when all have finished.
* While nothing comes, rank 0 broadcasts a no-op every few seconds: no collective ever waits for long, and a rank that
  is gone is noticed.
* A command that fails on any rank ends the policy: ranks that are out of step cannot be put back in step.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Protocol

from rlx.policy.failures import Board, blame
from rlx.policy.parallel.mesh import Ranks
from rlx.transport.messages import Message, Ok, Stop, decode, encode
from rlx.transport.sync_client import Command

IDLE_SECONDS = 10.0
_NOTHING = b""


class Channel(Protocol):
    """What rank 0 hears the controller through: `rlx.transport.SyncClient`, or a test's queue."""

    @property
    def commands(self) -> queue.Queue[Command]: ...

    def notify(self, message: Message) -> None: ...


Handle = Callable[[Message], Message]


def serve(world: Ranks, channel: Channel | None, handle: Handle, board: Board) -> None:
    """Execute commands until `Stop`. Only rank 0 has a channel. Raises what `handle` raises, after answering the
    command.
    """
    while True:
        command = _next(channel)
        data = world.broadcast_bytes(None if channel is None else encode(command.message) if command else _NOTHING)
        if data == _NOTHING:
            continue
        message = command.message if command else decode(data)
        if isinstance(message, Stop):
            _answer(command, Ok())
            return
        _answer(command, _execute(world, command, message, handle, board))


def _next(channel: Channel | None) -> Command | None:
    if channel is None:
        return None
    try:
        return channel.commands.get(timeout=IDLE_SECONDS)
    except queue.Empty:
        return None


def _execute(world: Ranks, command: Command | None, message: Message, handle: Handle, board: Board) -> Message:
    try:
        answer = handle(message)
        # Nothing is answered as done before every rank has done it.
        world.barrier()
    except Exception as error:
        if command is not None:
            command.fail(blame(error, board).error)
        raise
    return answer


def _answer(command: Command | None, answer: Message) -> None:
    if command is not None:
        command.reply(answer)
