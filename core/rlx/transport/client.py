"""A client's socket: a DEALER that talks with the controller and with nobody else.

The rules of this part:

* The first message is `Hello`; `connect` returns when the controller has answered it.
* A client that has nothing to say for two seconds sends a heartbeat, from the loop that it lives in. Code that computes
  for long between two awaits uses `SyncClient`, whose loop has a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time

import msgspec
import zmq

from rlx.boot import Endpoint
from rlx.errors import PeerFailed, WaitTimeout
from rlx.names import CONTROLLER
from rlx.transport.conversation import Conversation, Handle, OnError, log_error
from rlx.transport.envelope import open_envelope
from rlx.transport.messages import Heartbeat, Hello, Message, encode
from rlx.transport.zmq_loop import Pump

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 2.0


class Client:
    """`handler(message)` answers what the controller sends, `on_notification` takes what needs no answer (by
    default the handler does), `on_error` gets what that raises (by default it is logged).
    """

    def __init__(
        self,
        endpoint: Endpoint,
        name: str,
        attempt: int,
        handler: Handle,
        *,
        on_error: OnError = log_error,
        on_notification: Handle | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._name = name
        self._attempt = attempt
        self._handler = handler
        self._on_error = on_error
        self._on_notification = on_notification
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._conversation: Conversation | None = None
        self._pump: Pump | None = None
        self._beating: asyncio.Task[None] | None = None
        self._spoke = 0.0

    async def connect(self, timeout: float) -> None:
        """Raises WaitTimeout where no controller answers to these keys, PeerFailed where it refuses this attempt."""
        socket = self._open_socket()
        socket.connect(f"tcp://{self._endpoint.host}:{self._endpoint.port}")
        self._conversation = Conversation(
            CONTROLLER,
            self._attempt,
            self._send,
            self._handler,
            on_error=self._on_error,
            handle_told=self._on_notification,
        )
        self._pump = Pump(socket, self._take, self._broken)
        hello = Hello(self._name, self._attempt, os.getpid())
        where = f"{self._endpoint.host}:{self._endpoint.port}"
        try:
            await self.request(hello, timeout=timeout, what=f"{self._name} connects to the controller at {where}")
        except WaitTimeout as error:
            raise WaitTimeout(f"{error}. Is it running, and are these the keys of its run?") from error
        self._beating = asyncio.create_task(self._beat())
        self._beating.add_done_callback(self._beats_ended)

    async def request(self, message: Message, *, timeout: float, what: str) -> Message:
        """Raises WaitTimeout (a TimeoutError) naming `what`, or what the controller's handler raised."""
        return await self._connected().request(encode(message), timeout=timeout, what=what)

    async def notify(self, message: Message) -> None:
        self._connected().notify(encode(message))

    async def close(self) -> None:
        """Sends what is still to be sent, for a second at most."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        if self._conversation is not None:
            await self._conversation.close("this side has closed the connection")
        if self._pump is not None:
            self._pump.close()
        # In a thread: `term` blocks for as long as messages linger.
        await asyncio.to_thread(self._context.term)

    def _open_socket(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        socket.sndhwm = socket.rcvhwm = 0
        socket.curve_serverkey = self._endpoint.server_public.encode()
        socket.curve_publickey = self._endpoint.public.encode()
        socket.curve_secretkey = self._endpoint.secret.encode()
        return socket

    def _connected(self) -> Conversation:
        if self._conversation is None:
            raise PeerFailed(f"{self._name} is not connected to the controller yet")
        return self._conversation

    def _send(self, envelope: bytes, body: bytes) -> None:
        assert self._pump is not None
        self._pump.send(envelope, body)
        self._spoke = time.monotonic()

    def _take(self, frames: list[zmq.Frame]) -> None:
        try:
            envelope, body = frames
            self._connected().receive(open_envelope(envelope.bytes), body.bytes)
        except (msgspec.MsgspecError, ValueError) as error:
            log.warning("a message of the controller was dropped: %s", error)

    def _broken(self, error: Exception) -> None:
        self._on_error(CONTROLLER, error)

    async def _beat(self) -> None:
        while True:
            silent = time.monotonic() - self._spoke
            if silent >= HEARTBEAT_SECONDS:
                await self.notify(Heartbeat())
                silent = 0.0
            await asyncio.sleep(HEARTBEAT_SECONDS - silent)

    def _beats_ended(self, beating: asyncio.Task[None]) -> None:
        """They end by being cancelled. Of any other end the process hears itself, before it is taken for dead."""
        if not beating.cancelled() and isinstance(error := beating.exception(), Exception):
            self._broken(error)
