"""The side of a client: a socket that is connected to the controller.

Rules:

* The first message is `Hello`; `connect` returns when the controller has answered it.
* ZeroMQ mends a broken connection by itself, under another address. The controller then asks for another `Hello`, and
  all messages that it has not acknowledged are sent again.
* A client that has sent nothing for two seconds sends a heartbeat, from the event loop that it runs in. Code that
  computes for a long time without awaiting uses `SyncClient`, whose event loop has a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid

import msgspec
import zmq

from rlx.boot import Endpoint
from rlx.errors import PeerFailed, WaitTimeout
from rlx.names import CONTROLLER
from rlx.transport.conversation import Conversation, Handler, OnError, log_error
from rlx.transport.curve import Context, client_socket
from rlx.transport.envelope import decode_envelope
from rlx.transport.messages import Heartbeat, Hello, Message, encode
from rlx.transport.zmq_loop import LoopSocket

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 2.0
GREETING_SECONDS = 5.0
"""How long a client waits for the answer to a repeated `Hello`."""


class Client:
    """A client's connection to the controller.

    `handler(message)` answers the controller's requests. Notifications go to `on_notification` (default: `handler`),
    and its exceptions to `on_error` (default: the log).
    """

    def __init__(
        self,
        endpoint: Endpoint,
        name: str,
        attempt: int,
        handler: Handler,
        *,
        on_error: OnError = log_error,
        on_notification: Handler | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._name = name
        self._attempt = attempt
        self._handler = handler
        self._on_error = on_error
        self._on_notification = on_notification
        self._context: Context = zmq.Context()
        self._conversation: Conversation | None = None
        self._socket: LoopSocket | None = None
        self._heartbeats: asyncio.Task[None] | None = None
        self._last_sent = 0.0
        self._greeting: asyncio.Task[None] | None = None
        self._hello = encode(Hello(name, attempt, os.getpid(), uuid.uuid4().hex))

    async def connect(self, timeout: float) -> None:
        """Connect to the controller.

        Raises WaitTimeout if no controller accepts these keys in time, PeerFailed if it refuses this attempt.
        """
        socket = LoopSocket(
            client_socket(self._context, self._endpoint),
            self._receive,
            lambda error: self._on_error(CONTROLLER, error),
        )

        def send(envelope: bytes, body: bytes) -> None:
            socket.send(envelope, body)
            self._last_sent = time.monotonic()

        self._socket = socket
        self._conversation = Conversation(
            CONTROLLER,
            self._attempt,
            send,
            self._handler,
            on_error=self._on_error,
            on_notification=self._on_notification,
        )
        where = f"{self._endpoint.host}:{self._endpoint.port}"
        try:
            async with asyncio.timeout(timeout):
                await self._conversation.start_hello(self._hello)
        except TimeoutError as error:
            raise WaitTimeout(
                f"{self._name} connects to the controller at {where}: no answer from {CONTROLLER} within {timeout:g} "
                "s. Is it running, and are these the keys of its run?"
            ) from error
        self._heartbeats = asyncio.create_task(self._send_heartbeats())
        self._heartbeats.add_done_callback(self._heartbeats_ended)

    async def request(self, message: Message, *, timeout: float, what: str) -> Message:
        """Send a request and return the answer.

        Raises WaitTimeout (a TimeoutError) that names `what`, or the exception of the controller's handler.
        """
        return await self._connected().request(encode(message), timeout=timeout, what=what)

    async def notify(self, message: Message) -> None:
        """Send a message that gets no answer."""
        self._connected().notify(encode(message))

    async def close(self) -> None:
        """Disconnect, after waiting up to a second for queued messages to be sent."""
        for task in (self._heartbeats, self._greeting):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._conversation is not None:
            await self._conversation.close("this side has closed the connection")
        if self._socket is not None:
            self._socket.close()
        # In a thread, since `term` blocks while messages linger.
        await asyncio.to_thread(self._context.term)

    def _connected(self) -> Conversation:
        if self._conversation is None:
            raise PeerFailed(f"{self._name} is not connected to the controller yet")
        return self._conversation

    def _receive(self, frames: list[zmq.Frame]) -> None:
        try:
            first, body = frames
            envelope = decode_envelope(first.bytes)
            if envelope.kind == "hello":
                self._greet_again()
            elif self._connected().take(envelope):
                self._connected().receive(envelope, body.bytes)
        except (msgspec.MsgspecError, ValueError) as error:
            log.warning("a message from the controller was dropped: %s", error)

    def _greet_again(self) -> None:
        """Repeat the `Hello`, unless that is under way: the connection was broken."""
        if self._greeting is None or self._greeting.done():
            self._greeting = asyncio.create_task(self._mend())

    async def _mend(self) -> None:
        log.warning("the connection of %s to the controller was broken, and is mended", self._name)
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                await self._connected().start_hello(self._hello)
        except TimeoutError:
            return  # it was broken again: the next heartbeat makes the controller ask again
        except PeerFailed as error:
            self._on_error(CONTROLLER, error)
            return
        self._connected().send_again()

    async def _send_heartbeats(self) -> None:
        while True:
            silent = time.monotonic() - self._last_sent
            if silent >= HEARTBEAT_SECONDS:
                self._connected().notify_once(encode(Heartbeat()))
                silent = 0.0
            await asyncio.sleep(HEARTBEAT_SECONDS - silent)

    def _heartbeats_ended(self, task: asyncio.Task[None]) -> None:
        """Report failed heartbeats before the controller considers this process dead."""
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._on_error(CONTROLLER, error)
