"""The controller's side of the transport: one socket that serves the processes of this run only.

Rules:

* A peer's name follows from its key (CurveZMQ, checked before any of its bytes are read), and its `Hello` must agree.
  A peer without one of the run's keys gets no answer.
* A peer's first message is `Hello`. From then on, messages of an older attempt of that name are refused.
* A message of the current attempt from another address means that its connection was broken: it is asked to repeat its
  `Hello`, and the conversation goes on. Messages for it are kept until then.
* Bytes that are not a message are logged and dropped.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec
import zmq

from rlx.boot import Endpoint
from rlx.errors import PeerFailed, RlxError, UsageError
from rlx.names import CONTROLLER
from rlx.transport.conversation import Conversation, OnError, log_error
from rlx.transport.curve import Context, authenticator, bind, server_socket
from rlx.transport.envelope import Envelope, decode_envelope, encode_envelope, encode_error
from rlx.transport.messages import Heartbeat, Hello, Message, Ok, decode, encode
from rlx.transport.zmq_loop import LoopSocket

log = logging.getLogger(__name__)

GONE_SECONDS = 10.0
"""How long a client that can't be reached may be silent before sending to it is an error."""


@dataclass
class PeerState:
    """The controller's view of one client."""

    last_heard: float
    """`time.monotonic()` of its last message, heartbeats included."""
    attempt: int
    pid: int


@dataclass
class _Peer:
    state: PeerState
    session: str
    address: bytes
    conversation: Conversation


class Server:
    """Serves the run's clients.

    `handler(name, message)` answers all messages but `Hello` and `Heartbeat`. If it raises for a notification,
    `on_error(name, error)` is called (default: the log).
    """

    def __init__(
        self,
        endpoint: Endpoint,
        client_keys: dict[str, str],
        handler: Callable[[str, Message], Awaitable[Message | None]],
        *,
        on_error: OnError = log_error,
    ) -> None:
        self._endpoint = endpoint
        self._names = {key: name for name, key in client_keys.items()}
        self._handler = handler
        self._on_error = on_error
        self._peers: dict[str, _Peer] = {}
        self._states: dict[str, PeerState] = {}
        self._replaced: set[str] = set()
        """Sessions of clients that others of the same process have replaced."""
        self._context: Context = zmq.Context()
        self._authenticator = authenticator(self._context, self._names)
        self._socket: LoopSocket | None = None

    async def start(self) -> int:
        """Start listening and return the port. Raises UsageError if the port is taken."""
        self._authenticator.start()
        socket = server_socket(self._context, self._endpoint)
        try:
            port = bind(socket, self._endpoint)
        except UsageError:
            socket.close()
            raise
        self._socket = LoopSocket(socket, self._receive, lambda error: self._on_error(CONTROLLER, error))
        return port

    async def request(self, peer: str, message: Message, *, timeout: float, what: str) -> Message:
        """Send a request to `peer` and return the answer.

        Raises WaitTimeout (a TimeoutError) that names `what` and the peer, the RlxError of the peer's handler, or
        PeerFailed if the peer isn't connected, has left for a while, or its handler raised another exception.
        """
        return await self._conversation(peer).request(encode(message), timeout=timeout, what=what)

    async def notify(self, peer: str, message: Message) -> None:
        """Send a message that gets no answer.

        Raises PeerFailed if the peer isn't connected, or has left for a while.
        """
        self._conversation(peer).notify(encode(message))

    def peers(self) -> Mapping[str, PeerState]:
        """Return a live view of the connected clients, by name."""
        return MappingProxyType(self._states)

    async def close(self) -> None:
        """Abort all conversations and stop listening."""
        for peer in self._peers.values():
            await peer.conversation.close("the controller has closed its port")
        if self._socket is not None:
            self._socket.close()
        self._authenticator.stop()
        # In a thread, since `term` blocks while messages linger.
        await asyncio.to_thread(self._context.term)

    def _conversation(self, name: str) -> Conversation:
        if name not in self._peers:
            raise PeerFailed(f"{name} is not connected")
        return self._peers[name].conversation

    def _receive(self, frames: list[zmq.Frame]) -> None:
        try:
            if len(frames) != 3:
                raise ValueError(f"expected 3 frames, got {len(frames)}")
            name = self._names[str(frames[0].get("User-Id"))]
            self._dispatch(name, frames[0].bytes, decode_envelope(frames[1].bytes), frames[2].bytes)
        except (msgspec.MsgspecError, ValueError, PeerFailed) as error:
            log.warning("a message was dropped: %s", error)

    def _dispatch(self, name: str, address: bytes, envelope: Envelope, body: bytes) -> None:
        peer = self._peers.get(name)
        try:
            if peer is None or envelope.attempt != peer.state.attempt or address != peer.address:
                self._greet(name, address, envelope, body)
                return
            peer.state.last_heard = time.monotonic()
            if not peer.conversation.take(envelope):
                return
            if envelope.kind != "tell":
                peer.conversation.receive(envelope, body)
            elif isinstance(message := decode(body), Heartbeat):
                peer.conversation.acknowledge()
            else:
                peer.conversation.receive_notification(message)
        except RlxError as error:
            log.warning("refused a message from %s: %s", name, error)
            refusal = encode_envelope(Envelope("error", envelope.id, envelope.attempt))
            self._send_to(name, address, refusal, encode_error(error))

    def _greet(self, name: str, address: bytes, envelope: Envelope, body: bytes) -> None:
        """Answer a message from an address that is not the peer's: its first one, or one after a broken connection."""
        known = self._peers.get(name)
        current = known is not None and envelope.attempt == known.state.attempt
        if current and (envelope.kind != "ask" or not isinstance(decode(body), Hello)):
            self._send_to(name, address, encode_envelope(Envelope("hello", 0, envelope.attempt)), b"")
            return
        hello = self._checked_hello(name, envelope, body)
        again = known is not None and current and hello.session == known.session
        if known is not None and again:
            log.warning("the connection to %s was broken, and is mended", name)
            known.address, known.state.last_heard = address, time.monotonic()
            known.conversation.take(envelope)
        else:
            self._register(hello, address)
        received = self._peers[name].conversation.received
        answer = encode_envelope(Envelope("reply", envelope.id, envelope.attempt, received=received))
        self._send_to(name, address, answer, encode(Ok()))
        if again:
            self._peers[name].conversation.send_again()

    def _checked_hello(self, name: str, envelope: Envelope, body: bytes) -> Hello:
        """Decode a peer's first message. Raises PeerFailed if this process may not register under `name`."""
        known = self._peers.get(name)
        if known is not None and envelope.attempt < known.state.attempt:
            raise PeerFailed(
                f"attempt {envelope.attempt} of {name} is refused: attempt {known.state.attempt} has taken its place"
            )
        hello = decode(body)
        if not isinstance(hello, Hello):
            raise PeerFailed(f"the first message of {name} must be Hello, not {type(hello).__name__}")
        if hello.name != name or hello.attempt != envelope.attempt:
            raise PeerFailed(f"{hello.name!r} (attempt {hello.attempt}) used the key of {name!r}")
        if known is not None and known.state.attempt == hello.attempt and known.state.pid != hello.pid:
            raise PeerFailed(f"attempt {hello.attempt} of {name} is already here, as process {known.state.pid}")
        if hello.session in self._replaced:
            raise PeerFailed(f"this connection of {name} is refused: another one of its process has taken its place")
        return hello

    def _register(self, hello: Hello, address: bytes) -> None:
        old = self._peers.pop(hello.name, None)
        if old is not None:
            old.conversation.abort(f"attempt {old.state.attempt} was replaced")
            self._replaced.add(old.session)

        def send(envelope: bytes, body: bytes) -> None:
            try:
                self._send_to(hello.name, self._peers[hello.name].address, envelope, body)
            except PeerFailed:
                # Its connection may be broken for a moment: then it gets the message later.
                if time.monotonic() - self._peers[hello.name].state.last_heard > GONE_SECONDS:
                    raise

        async def handle(message: Message) -> Message | None:
            return await self._handler(hello.name, message)

        conversation = Conversation(hello.name, hello.attempt, send, handle, on_error=self._on_error)
        state = PeerState(time.monotonic(), hello.attempt, hello.pid)
        self._peers[hello.name] = _Peer(state, hello.session, address, conversation)
        self._states[hello.name] = state

    def _send_to(self, name: str, address: bytes, envelope: bytes, body: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.send(address, envelope, body)
        except zmq.ZMQError as error:
            raise PeerFailed(f"{name} is not connected any more ({os.strerror(error.errno or 0)})") from error
