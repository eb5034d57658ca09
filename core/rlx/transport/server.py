"""The controller's socket: a ROUTER that only processes of this run get an answer from.

The rules of this part:

* A peer's name is what its key says (CurveZMQ, checked before a single byte of it is read); what it calls itself must
  agree. A peer without one of the run's keys gets nothing.
* A peer's first message is `Hello`. From then on, messages of an older attempt of that name are refused.
* Bytes that are no message are logged and forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import msgspec
import zmq
import zmq.asyncio
from zmq.auth.asyncio import AsyncioAuthenticator

from rlx.boot import Endpoint
from rlx.errors import PeerFailed, RlxError, UsageError, WaitTimeout, some
from rlx.names import CONTROLLER
from rlx.transport.conversation import Conversation, OnError, log_error
from rlx.transport.envelope import Envelope, error_body, open_envelope, pack
from rlx.transport.messages import Heartbeat, Hello, Message, Ok, decode, encode
from rlx.transport.zmq_loop import Pump

log = logging.getLogger(__name__)

ZAP_DOMAIN = "rlx"


@dataclass
class PeerState:
    """What the controller knows of one client."""

    last_heard: float
    """`time.monotonic()` of its last message, heartbeats included."""
    attempt: int
    pid: int


@dataclass
class _Peer:
    state: PeerState
    address: bytes
    conversation: Conversation


class _KnownKeys:
    """Lets in the run's own keys; the shape is pyzmq's."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._keys = keys

    def callback(self, domain: str, key: bytes) -> bool:
        return domain == ZAP_DOMAIN and key.decode("ascii", "replace") in self._keys


class Server:
    """Listens for the run's clients. `handler(name, message)` answers what they send, `Hello` and `Heartbeat`
    excepted; `on_error(name, error)` gets what it raises on a notification (by default it is logged).
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
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._authenticator = AsyncioAuthenticator(zmq.asyncio.Context(self._context))
        self._pump: Pump | None = None

    async def start(self) -> int:
        """Binds and listens; returns the port. Raises UsageError where the port is taken."""
        self._authenticator.start()
        self._authenticator.configure_curve_callback(ZAP_DOMAIN, credentials_provider=_KnownKeys(self._names))
        socket = self._open_socket()
        try:
            port = self._bind(socket)
        except UsageError:
            socket.close()
            raise
        self._pump = Pump(socket, self._take, lambda error: self._on_error(CONTROLLER, error))
        return port

    async def request(self, peer: str, message: Message, *, timeout: float, what: str) -> Message:
        """Raises WaitTimeout (a TimeoutError) naming `what` and the peer, the RlxError that the handler there raised,
        or PeerFailed where the peer is not connected or its handler broke.
        """
        return await self._conversation(peer).request(encode(message), timeout=timeout, what=what)

    async def request_all(self, peers: Sequence[str], message: Message, *, timeout: float, what: str) -> list[Message]:
        """One message to many: encoded once, and one wait for all answers, which come in the order of `peers`.

        Raises as `request` does, as soon as one of them fails.
        """
        body, answers = encode(message), list[asyncio.Future[Message]]()
        try:
            async with asyncio.timeout(timeout) as limit:
                answers.extend(self._conversation(peer).ask(body) for peer in peers)
                return await asyncio.gather(*answers)
        except TimeoutError as error:
            if not limit.expired():
                raise
            silent = [peer for peer, answer in zip(peers, answers, strict=True) if answer.cancelled()]
            raise WaitTimeout(f"{what}: no answer from {some(silent)} within {timeout:g} s") from error
        finally:
            for answer in answers:
                answer.cancel()

    async def notify(self, peer: str, message: Message) -> None:
        """Raises PeerFailed where the peer is not connected."""
        self._conversation(peer).notify(encode(message))

    def peers(self) -> Mapping[str, PeerState]:
        """Who is connected; it changes as they come."""
        return MappingProxyType(self._states)

    async def close(self) -> None:
        for peer in self._peers.values():
            await peer.conversation.close("the controller has closed its port")
        if self._pump is not None:
            self._pump.close()
        self._authenticator.stop()
        # In a thread: `term` blocks for as long as messages linger.
        await asyncio.to_thread(self._context.term)

    def _open_socket(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.ROUTER)
        socket.sndhwm = socket.rcvhwm = 0
        socket.router_mandatory = True
        socket.zap_domain = ZAP_DOMAIN.encode()
        socket.curve_server = True
        socket.curve_publickey = self._endpoint.server_public.encode()
        socket.curve_secretkey = self._endpoint.secret.encode()
        return socket

    def _bind(self, socket: zmq.Socket[bytes]) -> int:
        host, port = self._endpoint.host, self._endpoint.port
        try:
            return socket.bind_to_random_port(f"tcp://{host}") if port == 0 else _bind_port(socket, host, port)
        except zmq.ZMQError as error:
            raise UsageError(
                f"the controller cannot listen on {host}:{port}: {error}. "
                "Set run.port to a free port, or to 0 to take any free one."
            ) from error

    def _conversation(self, name: str) -> Conversation:
        if name not in self._peers:
            raise PeerFailed(f"{name} is not connected")
        return self._peers[name].conversation

    def _take(self, frames: list[zmq.Frame]) -> None:
        try:
            self._sort(frames)
        except (msgspec.MsgspecError, ValueError, PeerFailed) as error:
            log.warning("a message was dropped: %s", error)

    def _sort(self, frames: list[zmq.Frame]) -> None:
        if len(frames) != 3:
            raise ValueError(f"expected 3 frames, got {len(frames)}")
        name = self._names[str(frames[0].get("User-Id"))]
        address, envelope, body = frames[0].bytes, open_envelope(frames[1].bytes), frames[2].bytes
        peer = self._peers.get(name)
        try:
            if peer is None or envelope.attempt != peer.state.attempt or address != peer.address:
                self._greet(name, address, envelope, body)
            else:
                self._deliver(peer, envelope, body)
        except RlxError as error:
            log.warning("refused a message of %s: %s", name, error)
            self._send_to(name, address, pack(Envelope("error", envelope.id, envelope.attempt)), error_body(error))

    def _deliver(self, peer: _Peer, envelope: Envelope, body: bytes) -> None:
        peer.state.last_heard = time.monotonic()
        if envelope.kind != "tell":
            peer.conversation.receive(envelope, body)
            return
        message = decode(body)
        if not isinstance(message, Heartbeat):
            peer.conversation.told(message)

    def _greet(self, name: str, address: bytes, envelope: Envelope, body: bytes) -> None:
        known = self._peers.get(name)
        if known is not None and envelope.attempt < known.state.attempt:
            raise PeerFailed(
                f"attempt {envelope.attempt} of {name} is refused: attempt {known.state.attempt} has taken its place"
            )
        hello = decode(body)
        if not isinstance(hello, Hello):
            raise PeerFailed(f"the first message of {name} must be Hello, not {type(hello).__name__}")
        _check_hello(hello, name, envelope, known)
        self._admit(hello, address)
        self._send_to(name, address, pack(Envelope("reply", envelope.id, envelope.attempt)), encode(Ok()))

    def _admit(self, hello: Hello, address: bytes) -> None:
        old = self._peers.pop(hello.name, None)
        if old is not None:
            old.conversation.break_off(f"attempt {old.state.attempt} was replaced")

        def send(envelope: bytes, body: bytes) -> None:
            self._send_to(hello.name, address, envelope, body)

        async def handle(message: Message) -> Message | None:
            return await self._handler(hello.name, message)

        conversation = Conversation(hello.name, hello.attempt, send, handle, on_error=self._on_error)
        state = PeerState(time.monotonic(), hello.attempt, hello.pid)
        self._peers[hello.name] = _Peer(state, address, conversation)
        self._states[hello.name] = state

    def _send_to(self, name: str, address: bytes, envelope: bytes, body: bytes) -> None:
        assert self._pump is not None
        try:
            self._pump.send(address, envelope, body)
        except zmq.ZMQError as error:
            raise PeerFailed(f"{name} is not connected any more ({os.strerror(error.errno or 0)})") from error


def _bind_port(socket: zmq.Socket[bytes], host: str, port: int) -> int:
    socket.bind(f"tcp://{host}:{port}")
    return port


def _check_hello(hello: Hello, name: str, envelope: Envelope, known: _Peer | None) -> None:
    if hello.name != name or hello.attempt != envelope.attempt:
        raise PeerFailed(f"{hello.name!r} (attempt {hello.attempt}) spoke with the key of {name!r}")
    if known is not None and known.state.attempt == hello.attempt and known.state.pid != hello.pid:
        raise PeerFailed(f"attempt {hello.attempt} of {name} is already here, as process {known.state.pid}")
