"""A ZeroMQ socket in an asyncio loop, without a future for each message.

The rules of this part:

* Sending never waits: sockets of a run have no high-water mark, and ZeroMQ's own threads do the rest.
* A socket's descriptor tells only that something has changed, once. Whatever was done with the socket, what has arrived
  is looked for afterwards.
* A socket that is never empty lets other work of the loop run after so many messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import zmq

MESSAGES_PER_TURN = 64
LINGER_MS = 1000
NOW = int(zmq.NOBLOCK)
MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
"""As numbers: joining flags costs as much as sending a message does."""


class Pump:
    """Hands every message that arrives to `take`. What that raises goes to `broken`, and the pump goes on; so does an
    error of the socket, after which no message comes.
    """

    def __init__(
        self, socket: zmq.Socket[bytes], take: Callable[[list[zmq.Frame]], None], broken: Callable[[Exception], None]
    ) -> None:
        self._socket = socket
        self._take = take
        self._broken = broken
        self._loop = asyncio.get_running_loop()
        self._turn_is_due = False
        self._descriptor = int(socket.get(zmq.FD))
        self._loop.add_reader(self._descriptor, self._soon)
        self._soon()

    def send(self, *frames: bytes) -> None:
        """Raises zmq.ZMQError where nobody is there to get them."""
        *first, last = frames
        for frame in first:
            self._socket.send(frame, MORE)
        self._socket.send(last, NOW)
        self._soon()

    def close(self) -> None:
        """What was sent still leaves, for a second at most, while the context is being ended."""
        if self._socket.closed:
            return
        self._loop.remove_reader(self._descriptor)
        self._socket.close(linger=LINGER_MS)

    def _soon(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_is_due = False
        if self._socket.closed:
            return
        try:
            arrived = self._arrived()
        except zmq.ZMQError as error:
            self._broken(error)
            return
        for frames in arrived:
            try:
                self._take(frames)
            except Exception as error:  # noqa: BLE001 - the boundary: one message must not end the loop's reading
                self._broken(error)

    def _arrived(self) -> Sequence[list[zmq.Frame]]:
        found: list[list[zmq.Frame]] = []
        try:
            while len(found) < MESSAGES_PER_TURN:
                found.append(self._socket.recv_multipart(NOW, copy=False))
        except zmq.Again:
            return found
        self._soon()
        return found
