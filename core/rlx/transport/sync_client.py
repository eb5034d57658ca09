"""The transport for code that doesn't await: the policy.

Rule: a background thread sends heartbeats and answers, so they are sent even while the main thread computes.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
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
    """A message from the controller.

    A request must be answered once, by `reply(message)` or `fail(text)`, from any thread. For a notification both do
    nothing.
    """

    message: Message
    reply: Callable[[Message], None]
    fail: Callable[[str], None]


class SyncClient:
    """A client that connects in its constructor. `commands` holds the controller's messages, in order of arrival."""

    def __init__(
        self, endpoint: Endpoint, name: str, attempt: int, *, connect_timeout: float = CONNECT_SECONDS
    ) -> None:
        """Raises WaitTimeout or PeerFailed as `Client.connect` does."""
        self.commands: queue.Queue[Command] = queue.Queue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"rlx-transport-{name}", daemon=True)
        self._thread.start()
        self._client = Client(endpoint, name, attempt, self._on_request, on_notification=self._on_notification)
        with ExitStack() as on_failure:
            on_failure.callback(self.close)
            self._call(self._client.connect(connect_timeout), connect_timeout + CLOSE_SECONDS)
            on_failure.pop_all()

    def request(self, message: Message, *, timeout: float, what: str) -> Message:
        """Send a request and return the answer.

        Raises WaitTimeout (a TimeoutError) that names `what`, or the exception of the controller's handler.
        """
        return self._call(self._client.request(message, timeout=timeout, what=what), timeout + CLOSE_SECONDS)

    def notify(self, message: Message) -> None:
        """Send a message that gets no answer."""
        self._call(self._client.notify(message), CLOSE_SECONDS)

    def close(self) -> None:
        """Disconnect and end the thread, after waiting up to a second for queued messages to be sent."""
        if self._loop.is_closed():
            return
        self._call(self._client.close(), CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)
        self._loop.close()

    def _call(self, work: Coroutine[None, None, T], timeout: float) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    async def _on_notification(self, message: Message) -> None:
        def ignore(_: object) -> None:
            """Do nothing: the controller doesn't wait for an answer."""

        self.commands.put(Command(message, ignore, ignore))

    async def _on_request(self, message: Message) -> Message:
        answer: asyncio.Future[Message] = self._loop.create_future()

        def set_answer(result: Message | PeerFailed) -> None:
            if answer.done():
                return
            if isinstance(result, Message):
                answer.set_result(result)
            else:
                answer.set_exception(result)

        def reply(result: Message) -> None:
            self._loop.call_soon_threadsafe(set_answer, result)

        def fail(text: str) -> None:
            self._loop.call_soon_threadsafe(set_answer, PeerFailed(text))

        self.commands.put(Command(message, reply, fail))
        return await answer
