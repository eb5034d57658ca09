from __future__ import annotations

import asyncio
import time

import pytest

from rlx.errors import PeerFailed, RewardError, WaitTimeout
from rlx.transport.messages import Measured, Ok, Stop
from rlx.transport.sync_client import SyncClient


@pytest.fixture
async def policy(net):
    async def echo(_name, message):
        if isinstance(message, Stop):
            raise RewardError("no")
        return message

    net.server = await net.serve(echo)
    client = await asyncio.to_thread(SyncClient, net.endpoint("policy"), "policy", 1)
    yield client
    await asyncio.to_thread(client.close)


async def test_requests_return_answers_and_raise_errors(policy):
    ask = Measured({"a": 1.0})
    assert await asyncio.to_thread(policy.request, ask, timeout=5, what="echo") == ask
    with pytest.raises(RewardError, match=r"^no$"):
        await asyncio.to_thread(policy.request, Stop(), timeout=5, what="refused")


async def test_commands_come_in_order_and_are_answered_from_another_thread(net, policy):
    def work():
        for number in range(3):
            command = policy.commands.get(timeout=5)
            assert command.message == Measured({"n": number})
            command.fail("bad step") if number == 1 else command.reply(command.message)

    asked = [
        asyncio.create_task(net.server.request("policy", Measured({"n": n}), timeout=5, what="x")) for n in range(3)
    ]
    await asyncio.to_thread(work)
    first, second, third = await asyncio.gather(*asked, return_exceptions=True)
    assert (first, third) == (Measured({"n": 0}), Measured({"n": 2}))
    assert isinstance(second, PeerFailed)
    assert str(second) == "bad step"


async def test_a_notification_needs_no_answer(net, policy):
    for number in range(3):
        await net.server.notify("policy", Measured({"n": number}))
    commands = [await asyncio.to_thread(policy.commands.get, timeout=5) for _ in range(3)]
    assert [command.message for command in commands] == [Measured({"n": number}) for number in range(3)]
    commands[0].reply(Ok())
    commands[1].fail("the controller does not wait for it")


async def test_heartbeats_continue_while_the_owner_computes(net, monkeypatch):
    monkeypatch.setattr("rlx.transport.client.HEARTBEAT_SECONDS", 0.02)
    server = await net.serve()
    heard = []

    def compute():
        client = SyncClient(net.endpoint("policy"), "policy", 1)
        time.sleep(0.5)
        client.close()

    thread = asyncio.create_task(asyncio.to_thread(compute))
    while not thread.done():
        await asyncio.sleep(0.02)
        heard.extend(state.last_heard for state in server.peers().values())
    assert len(set(heard)) > 5


async def test_a_missing_controller_is_a_timeout_that_names_its_address(net):
    await (await net.serve()).close()
    with pytest.raises(WaitTimeout, match=r"policy connects to the controller at 127.0.0.1:.* Is it running"):
        await asyncio.to_thread(SyncClient, net.endpoint("policy"), "policy", 1, connect_timeout=0.3)
