"""Requests, answers and notifications between this process and one peer, over any socket.

Rules:

* Requests are handled as tasks that start in the order of arrival: a slow one never delays those after it.
* Notifications are handled one after another, in the order of arrival.
* An exception in the handler of a request travels back to the peer. A notification has no answer, so an exception in
  its handler goes to `on_error`.
* Every wait for an answer has a timeout, and its error names the operation and the peer.
* Messages are numbered and kept until the peer has acknowledged them. After a broken connection they are sent again,
  and the receiver takes each number once, in order.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec

from rlx.errors import PeerFailed, RlxError, WaitTimeout
from rlx.transport.envelope import Envelope, Kind, decode_error, encode_envelope, encode_error
from rlx.transport.messages import Message, Ok, decode, encode

log = logging.getLogger(__name__)

ACK_AFTER = 64
"""Messages after which a receiver acknowledges them, even if it has nothing to send."""
ACK_SECONDS = 1.0
"""The same by time, at the next message."""

Send = Callable[[bytes, bytes], None]
"""Sends an envelope and a body."""
Handler = Callable[[Message], Awaitable[Message | None]]
OnError = Callable[[str, Exception], None]
"""Called with the name of a peer and the exception that the handler of its notification raised."""


def log_error(peer: str, error: Exception) -> None:
    """Log the exception of a notification's handler: the default for `on_error`."""
    log.error("a message from %s could not be handled", peer, exc_info=error)


class Conversation:
    """The exchange of messages with `peer`.

    `send` transmits an envelope and a body. `handler` answers requests; notifications go to `on_notification` (default:
    `handler`), and its exceptions to `on_error`.
    """

    def __init__(
        self,
        peer: str,
        attempt: int,
        send: Send,
        handler: Handler,
        *,
        on_error: OnError = log_error,
        on_notification: Handler | None = None,
    ) -> None:
        self.peer = peer
        self.attempt = attempt
        self._send = send
        self._handler = handler
        self._on_notification = on_notification or handler
        self._on_error = on_error
        self._ids = itertools.count(1)
        self._requests: dict[int, asyncio.Future[Message]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._notifications: deque[Message] = deque()
        self._handling_notifications = False
        self._number = 0
        self._unacknowledged: deque[tuple[int, Kind, int, bytes]] = deque()
        self._received = 0
        self._acknowledged = 0
        self._acknowledged_at = time.monotonic()

    @property
    def received(self) -> int:
        """The position of the last message that has arrived."""
        return self._received

    async def request(self, body: bytes, *, timeout: float, what: str) -> Message:
        """Send an encoded message and return the answer. Raises WaitTimeout, or the exception of the peer's handler."""
        answer = self.start_request(body)
        try:
            async with asyncio.timeout(timeout) as limit:
                return await answer
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise WaitTimeout(f"{what}: no answer from {self.peer} within {timeout:g} s") from error

    def start_request(self, body: bytes) -> asyncio.Future[Message]:
        """Send an encoded message and return a future of the answer. The caller sets a timeout."""
        number, answer = self._new_request()
        self._post("ask", number, body)
        return answer

    def start_hello(self, body: bytes) -> asyncio.Future[Message]:
        """Send a `Hello`, which precedes all numbered messages, and return a future of the answer."""
        number, answer = self._new_request()
        self._transmit("ask", number, body)
        return answer

    def notify(self, body: bytes) -> None:
        """Send an encoded message that gets no answer."""
        self._post("tell", 0, body)

    def notify_once(self, body: bytes) -> None:
        """Send a notification that may be lost."""
        self._transmit("tell", 0, body)

    def acknowledge(self) -> None:
        """Acknowledge what has arrived, if the peer doesn't know."""
        if self._received > self._acknowledged:
            self._transmit("ack", 0, b"")

    def send_again(self) -> None:
        """Send all messages again that the peer has not acknowledged: the connection was broken."""
        for position, kind, number, body in self._unacknowledged:
            self._transmit(kind, number, body, position)

    def take(self, envelope: Envelope) -> bool:
        """Note the numbers of a message that has arrived. Returns whether it is to be processed.

        It is not if it has arrived before, or if one before it is missing, which is sent again together with this one.
        """
        while self._unacknowledged and self._unacknowledged[0][0] <= envelope.received:
            self._unacknowledged.popleft()
        if envelope.number:
            if envelope.number != self._received + 1:
                return False
            self._received += 1
            late = time.monotonic() - self._acknowledged_at > ACK_SECONDS
            if late or self._received - self._acknowledged >= ACK_AFTER:
                self.acknowledge()
        return envelope.kind != "ack"

    def receive(self, envelope: Envelope, body: bytes) -> None:
        """Process a message that `take` has let through. Raises msgspec.MsgspecError if its body can't be decoded."""
        match envelope.kind:
            case "tell":
                self.receive_notification(decode(body))
            case "ask":
                self._start(self._answer(envelope.id, body))
            case "reply" | "error":
                answer = self._requests.pop(envelope.id, None)
                if answer is None or answer.done():
                    log.info("%s answered request %d after its timeout", self.peer, envelope.id)
                elif envelope.kind == "reply":
                    answer.set_result(decode(body))
                else:
                    answer.set_exception(decode_error(self.peer, body))

    def receive_notification(self, message: Message) -> None:
        """Queue a notification for its handler."""
        self._notifications.append(message)
        if not self._handling_notifications:
            self._handling_notifications = True
            self._start(self._handle_notifications())

    def abort(self, reason: str) -> None:
        """Fail the requests that wait for an answer, and cancel running handlers."""
        for answer in self._requests.values():
            if not answer.done():
                answer.set_exception(PeerFailed(f"{self.peer}: {reason}"))
        for task in self._tasks:
            task.cancel()

    async def close(self, reason: str) -> None:
        """Abort, and return when all handlers have stopped."""
        tasks = list(self._tasks)
        self.abort(reason)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _new_request(self) -> tuple[int, asyncio.Future[Message]]:
        number = next(self._ids)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._requests[number] = answer
        return number, answer

    def _post(self, kind: Kind, number: int, body: bytes) -> None:
        self._number += 1
        self._unacknowledged.append((self._number, kind, number, body))
        self._transmit(kind, number, body, self._number)

    def _transmit(self, kind: Kind, number: int, body: bytes, position: int = 0) -> None:
        self._acknowledged, self._acknowledged_at = self._received, time.monotonic()
        self._send(encode_envelope(Envelope(kind, number, self.attempt, position, self._received)), body)

    async def _answer(self, number: int, body: bytes) -> None:
        kind: Kind = "reply"
        try:
            answer = encode(await self._handler(decode(body)) or Ok())
        except Exception as error:  # the boundary: the peer waits for an answer, and gets this one
            if not isinstance(error, RlxError | msgspec.MsgspecError):
                log.exception("a request of %s failed", self.peer)
            kind, answer = "error", encode_error(error)
        try:
            self._post(kind, number, answer)
        except PeerFailed as error:
            self._on_error(self.peer, error)

    async def _handle_notifications(self) -> None:
        while self._notifications:
            try:
                await self._on_notification(self._notifications.popleft())
            except Exception as error:  # noqa: BLE001 - the boundary: the peer doesn't wait for an answer
                self._on_error(self.peer, error)
        self._handling_notifications = False
