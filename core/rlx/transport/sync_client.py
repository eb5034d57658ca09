"""The transport for code that does not await: the policy.

The rule of this part: heartbeats and answers go out from a thread of their own, whatever the main thread computes.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TypeVar

from rlx.boot import Endpoint
from rlx.errors import PeerFailed
from rlx.transport.client import Client
from rlx.transport.messages import Message

T = TypeVar("T")

CONNECT_SECONDS = 60.0
CLOSE_SECONDS = 10.0


@dataclass(frozen=True)
class Command:
    """A message of the controller. A request must get one `reply(message)` or `fail(text)`; for a notification both do
    nothing that anybody sees. Either may be called from any thread.
    """

    message: Message
    reply: Callable[[Message], None]
    fail: Callable[[str], None]


class SyncClient:
    """Connects when it is made. `commands` holds what the controller sent, in the order of arrival."""

    def __init__(
        self, endpoint: Endpoint, name: str, attempt: int, *, connect_timeout: float = CONNECT_SECONDS
    ) -> None:
        """Raises WaitTimeout or PeerFailed as `Client.connect` does."""
        self.commands: queue.Queue[Command] = queue.Queue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"rlx-transport-{name}", daemon=True)
        self._thread.start()
        self._client = self._call(self._make(endpoint, name, attempt), CLOSE_SECONDS)
        try:
            self._call(self._client.connect(connect_timeout), connect_timeout + CLOSE_SECONDS)
        except BaseException:
            self.close()
            raise

    def request(self, message: Message, *, timeout: float, what: str) -> Message:
        """Raises WaitTimeout (a TimeoutError) naming `what`, or what the controller's handler raised."""
        return self._call(self._client.request(message, timeout=timeout, what=what), timeout + CLOSE_SECONDS)

    def notify(self, message: Message) -> None:
        self._call(self._client.notify(message), CLOSE_SECONDS)

    def close(self) -> None:
        """Sends what is still to be sent, for a second at most, and ends the thread."""
        if self._loop.is_closed():
            return
        self._call(self._client.close(), CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)
        self._loop.close()

    async def _make(self, endpoint: Endpoint, name: str, attempt: int) -> Client:
        return Client(endpoint, name, attempt, self._handle, on_notification=self._take)

    def _call(self, work: Coroutine[None, None, T], timeout: float) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    async def _take(self, message: Message) -> None:
        self.commands.put(Command(message, _nobody_waits, _nobody_waits))

    async def _handle(self, message: Message) -> Message:
        answer: asyncio.Future[Message] = self._loop.create_future()

        def reply(result: Message) -> None:
            self._loop.call_soon_threadsafe(_settle, answer, result)

        def fail(text: str) -> None:
            self._loop.call_soon_threadsafe(_settle, answer, PeerFailed(text))

        self.commands.put(Command(message, reply, fail))
        return await answer


def _nobody_waits(_: object) -> None:
    """What `reply` and `fail` of a notification are."""


def _settle(answer: asyncio.Future[Message], result: Message | PeerFailed) -> None:
    if answer.done():
        return
    if isinstance(result, Message):
        answer.set_result(result)
    else:
        answer.set_exception(result)
