"""TCP connections that break for an instant, as across machines: each message arrives once, in order."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
from msgspec import structs

from rlx.errors import PeerFailed
from rlx.transport.messages import Measured, Ok


class Proxy:
    """Passes bytes on to the controller, and breaks the connections through it when asked."""

    def __init__(self):
        self.connections = []
        self.made = 0

    async def open(self, port):
        self.target = port
        self.server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    def cut(self):
        for writer in self.connections:
            writer.transport.abort()
        self.connections.clear()

    async def _pass_on(self, reader, writer):
        self.made += 1
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self.connections += [writer, to_writer]
        await asyncio.gather(self._copy(reader, to_writer), self._copy(to_reader, writer))

    async def _copy(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(1000):  # small, so that messages are cut in the middle
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.fixture
async def broken(net, monkeypatch):
    """A server and a client whose connection goes through a proxy: (proxy, server, client, messages of each)."""
    monkeypatch.setattr("rlx.transport.client.HEARTBEAT_SECONDS", 0.1)
    at_server, at_client, proxy = [], [], Proxy()

    async def serve(_peer, message):
        at_server.append(message.metrics["n"])
        await asyncio.sleep(message.metrics.get("takes", 0))
        return message

    async def answer(message):
        at_client.append(message.metrics["n"])
        await asyncio.sleep(message.metrics.get("takes", 0))
        return message

    server = await net.serve(serve)
    endpoint = structs.replace(net.endpoint("policy"), port=await proxy.open(net.port))
    client = net.client("policy", 1, answer, endpoint=endpoint)
    await client.connect(5)
    yield proxy, server, client, at_server, at_client
    proxy.server.close()


def number(n, **more):
    return Measured({"n": float(n), "text": 0.0, **more})


async def test_a_connection_that_breaks_once_is_mended(net, broken):
    proxy, server, client, at_server, at_client = broken
    await client.notify(number(1))
    await net.until(lambda: at_server == [1])
    proxy.cut()
    await server.notify("policy", number(10))
    await client.notify(number(2))
    assert await client.request(number(3), timeout=5, what="a request of the client") == number(3)
    assert await server.request("policy", number(11), timeout=5, what="a request of the controller") == number(11)
    assert (at_server, at_client) == ([1, 2, 3], [10, 11])
    assert proxy.made == 2
    heard = server.peers()["policy"].last_heard
    await net.until(lambda: server.peers()["policy"].last_heard > heard + 0.2)


async def test_requests_that_are_being_answered_are_answered_once(net, broken):
    proxy, server, client, at_server, at_client = broken
    asking = asyncio.gather(
        client.request(number(1, takes=0.5), timeout=5, what="ask"),
        server.request("policy", number(2, takes=0.5), timeout=5, what="ask"),
    )
    await net.until(lambda: at_server and at_client)
    proxy.cut()
    assert [answer.metrics["n"] for answer in await asking] == [1, 2]
    assert (at_server, at_client) == ([1], [2])


@pytest.mark.parametrize("seed", [1, 2])
async def test_many_breaks_lose_nothing_and_repeat_nothing(net, broken, seed):
    proxy, server, client, at_server, at_client = broken
    rng = random.Random(seed)
    for n in range(600):
        await client.notify(number(n))
        await server.notify("policy", number(n))
        if rng.random() < 0.02:
            proxy.cut()
        if rng.random() < 0.2:
            await asyncio.sleep(rng.random() * 0.03)
    await net.until(lambda: len(at_server) == len(at_client) == 600, seconds=20)
    assert at_server == at_client == list(range(600))
    assert proxy.made > 3


async def test_messages_that_are_acknowledged_are_not_kept(net, broken):
    _, server, client, at_server, at_client = broken
    for n in range(200):
        await client.notify(number(n))
        await server.notify("policy", number(n))
    await net.until(lambda: len(at_server) == len(at_client) == 200)
    conversations = (client._conversation, server._conversation("policy"))
    await net.until(lambda: not any(conversation._unacknowledged for conversation in conversations))


async def test_another_client_of_the_same_process_begins_anew(net):
    server = await net.serve()
    first = await net.connect("policy")
    await first.request(number(1), timeout=5, what="ask")
    second = await net.connect("policy")
    assert await second.request(number(2), timeout=5, what="ask") == Ok()
    assert await server.request("policy", number(3), timeout=5, what="ask") == Ok()
    with pytest.raises(PeerFailed, match="another one of its process has taken its place"):
        await first._conversation.start_hello(first._hello)
