"""A ZeroMQ socket in an asyncio event loop, without the cost of a future for each message.

Rules:

* Sending never waits: the sockets of a run have no high-water mark, and ZeroMQ's own threads do the rest.
* The file descriptor of a socket is edge-triggered: it becomes readable once for any change of state. So
  messages that have arrived are read after every use of the socket.
* After MESSAGES_PER_TURN messages, other work of the event loop gets its turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import zmq

MESSAGES_PER_TURN = 64
LINGER_MS = 1000
# As numbers: combining flags costs as much as sending a message.
NOW = int(zmq.NOBLOCK)
MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


class LoopSocket:
    """A ZeroMQ socket that passes each message it receives to `on_frames`.

    Exceptions of `on_frames` go to `on_error`, and reading continues. So do errors of the socket, which end reading.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        on_frames: Callable[[list[zmq.Frame]], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._socket = socket
        self._on_frames = on_frames
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        self._read_is_scheduled = False
        self._descriptor = int(socket.get(zmq.FD))
        self._loop.add_reader(self._descriptor, self._schedule_read)
        self._schedule_read()

    def send(self, *frames: bytes) -> None:
        """Send one message. Raises zmq.ZMQError if the receiver isn't connected."""
        *first, last = frames
        for frame in first:
            self._socket.send(frame, MORE)
        self._socket.send(last, NOW)
        self._schedule_read()

    def close(self) -> None:
        """Close the socket. Queued messages are still sent while the context terminates, for up to LINGER_MS."""
        if self._socket.closed:
            return
        self._loop.remove_reader(self._descriptor)
        self._socket.close(linger=LINGER_MS)

    def _schedule_read(self) -> None:
        if not self._read_is_scheduled:
            self._read_is_scheduled = True
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        self._read_is_scheduled = False
        if self._socket.closed:
            return
        arrived: list[list[zmq.Frame]] = []
        try:
            while len(arrived) < MESSAGES_PER_TURN:
                arrived.append(self._socket.recv_multipart(NOW, copy=False))
            self._schedule_read()
        except zmq.Again:
            pass  # these are all messages that have arrived
        except zmq.ZMQError as error:
            self._on_error(error)
            return
        for frames in arrived:
            try:
                self._on_frames(frames)
            except Exception as error:  # noqa: BLE001 - the boundary: one bad message must not end reading
                self._on_error(error)
