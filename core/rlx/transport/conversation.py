"""One side of the talk with one peer, whatever socket carries it.

The rules of this part:

* Requests are handled as tasks, started in the order of arrival: a slow one never holds up what comes after it.
* Notifications are handled one after another, in the order of arrival.
* What a handler of a request raises travels back to who asked. What a handler of a notification raises has nobody to
  travel to and goes to `on_error`.
* Every wait for an answer has a timeout, and its error names what was waited for and from whom.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec

from rlx.errors import PeerFailed, RlxError, WaitTimeout
from rlx.transport.envelope import Envelope, Kind, error_body, open_error, pack
from rlx.transport.messages import Message, Ok, decode, encode

log = logging.getLogger(__name__)

Send = Callable[[bytes, bytes], None]
Handle = Callable[[Message], Awaitable[Message | None]]
OnError = Callable[[str, Exception], None]


def log_error(peer: str, error: Exception) -> None:
    """What is done with a failed notification where nobody asked for anything else."""
    log.error("a message from %s could not be handled", peer, exc_info=error)


class Conversation:
    """The talk with `peer`. `send` carries an envelope and a body to it. `handle` answers requests, and takes
    notifications too where there is no `handle_told`; `on_error` gets what a notification's handler raises.
    """

    def __init__(
        self,
        peer: str,
        attempt: int,
        send: Send,
        handle: Handle,
        *,
        on_error: OnError = log_error,
        handle_told: Handle | None = None,
    ) -> None:
        self.peer = peer
        self.attempt = attempt
        self._send = send
        self._handle = handle
        self._handle_told = handle_told or handle
        self._on_error = on_error
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: deque[Message] = deque()
        self._told_is_handled = False

    async def request(self, body: bytes, *, timeout: float, what: str) -> Message:
        """Asks with an encoded message, and returns the answer. Raises WaitTimeout, or what the peer's handler
        raised.
        """
        answer = self.ask(body)
        try:
            async with asyncio.timeout(timeout) as limit:
                return await answer
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise WaitTimeout(f"{what}: no answer from {self.peer} within {timeout:g} s") from error

    def ask(self, body: bytes) -> asyncio.Future[Message]:
        """The same without a limit of time: who asks keeps it."""
        number = next(self._ids)
        self._post("ask", number, body)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        return answer

    def notify(self, body: bytes) -> None:
        """Tells an encoded message."""
        self._post("tell", 0, body)

    def receive(self, envelope: Envelope, body: bytes) -> None:
        """Takes in what arrived. Raises msgspec.MsgspecError where the body is not what the envelope says."""
        match envelope.kind:
            case "tell":
                self.told(decode(body))
            case "ask":
                self._start(self._answer(envelope.id, body))
            case "reply" | "error":
                self._settle(envelope, body)

    def told(self, message: Message) -> None:
        """Takes in a notification."""
        self._told.append(message)
        if not self._told_is_handled:
            self._told_is_handled = True
            self._start(self._work_off_told())

    def break_off(self, reason: str) -> None:
        """Fails what still waits for an answer, and stops what is being handled."""
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(PeerFailed(f"{self.peer}: {reason}"))
        for task in self._tasks:
            task.cancel()

    async def close(self, reason: str) -> None:
        """The same; returns when all of it has stopped."""
        tasks = list(self._tasks)
        self.break_off(reason)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _post(self, kind: Kind, number: int, body: bytes) -> None:
        self._send(pack(Envelope(kind, number, self.attempt)), body)

    async def _answer(self, number: int, body: bytes) -> None:
        try:
            reply = encode(await self._handle(decode(body)) or Ok())
        except Exception as error:
            if not isinstance(error, RlxError | msgspec.MsgspecError):
                log.exception("a request of %s failed", self.peer)
            self._post_or_report("error", number, error_body(error))
        else:
            self._post_or_report("reply", number, reply)

    def _post_or_report(self, kind: Kind, number: int, body: bytes) -> None:
        try:
            self._post(kind, number, body)
        except PeerFailed as error:
            self._on_error(self.peer, error)

    async def _work_off_told(self) -> None:
        while self._told:
            try:
                await self._handle_told(self._told.popleft())
            except Exception as error:  # noqa: BLE001 - the boundary: nobody waits for an answer
                self._on_error(self.peer, error)
        self._told_is_handled = False

    def _settle(self, envelope: Envelope, body: bytes) -> None:
        answer = self._waiting.pop(envelope.id, None)
        if answer is None or answer.done():
            log.info("%s answered request %d after its time was up", self.peer, envelope.id)
        elif envelope.kind == "reply":
            answer.set_result(decode(body))
        else:
            answer.set_exception(open_error(self.peer, body))
