from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from rlx.boot import Endpoint
from rlx.transport.client import Client
from rlx.transport.keys import RunKeys
from rlx.transport.messages import Message, Ok
from rlx.transport.server import Server

Handler = Callable[[str, Message], Awaitable[Message | None]]


async def _ok(*_: object) -> Message:
    return Ok()


class Net:
    """A controller and its clients over real sockets."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.keys = RunKeys.make(["policy", "rollout-0", "launcher"])
        self.errors: list[tuple[str, Exception]] = []
        self.port = 0
        self._stack = stack

    async def serve(self, handler: Handler = _ok) -> Server:
        endpoint = self.keys.endpoint("controller", "127.0.0.1", 0)
        server = Server(
            endpoint, self.keys.client_keys, handler, on_error=lambda peer, error: self.errors.append((peer, error))
        )
        self._stack.push_async_callback(server.close)
        self.port = await server.start()
        return server

    async def until(self, condition: Callable[[], bool], seconds: float = 5) -> None:
        """Wait for `condition`, which depends on the other end of a socket."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - there is no event to wait for across a socket
                await asyncio.sleep(0.01)

    def endpoint(self, name: str) -> Endpoint:
        return self.keys.endpoint(name, "127.0.0.1", self.port)

    def client(self, name="policy", attempt=1, handler=_ok, endpoint=None, **options) -> Client:
        client = Client(endpoint or self.endpoint(name), name, attempt, handler, **options)
        self._stack.push_async_callback(client.close)
        return client

    async def connect(self, name="policy", attempt=1, handler=_ok, **options) -> Client:
        client = self.client(name, attempt, handler, **options)
        await client.connect(5)
        return client


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    async with AsyncExitStack() as stack:
        yield Net(stack)
