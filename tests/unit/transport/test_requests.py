from __future__ import annotations

import asyncio
import os

import pytest

from rlx.errors import PeerFailed, RewardError, UsageError, WaitTimeout
from rlx.transport.messages import Log, Measured, Stop, TrainStep
from rlx.transport.server import Server


def measured(number: float) -> Measured:
    return Measured({"n": number})


async def echo(_name, message):
    return message


async def test_both_sides_send_requests_and_answer(net):
    async def double(message):
        return measured(message.metrics["n"] * 2)

    server = await net.serve(echo)
    client = await net.connect(handler=double)
    assert await client.request(measured(3), timeout=5, what="echo") == measured(3)
    assert await server.request("policy", measured(3), timeout=5, what="double") == measured(6)


async def test_a_handler_that_returns_nothing_answers_ok(net):
    async def nothing(_name, _message):
        return None

    await net.serve(nothing)
    client = await net.connect()
    assert type(await client.request(Stop(), timeout=5, what="stop")).__name__ == "Ok"


async def test_concurrent_requests_get_their_own_answers_without_blocking_each_other(net):
    release = asyncio.Event()

    async def slow_first(_name, message):
        if message.metrics["n"] == 0:
            await release.wait()
        return message

    await net.serve(slow_first)
    client = await net.connect()
    slow = asyncio.create_task(client.request(measured(0), timeout=5, what="slow"))
    rest = [client.request(measured(number), timeout=5, what="quick") for number in range(1, 100)]
    assert await asyncio.gather(*rest) == [measured(number) for number in range(1, 100)]
    assert not slow.done()
    release.set()
    assert await slow == measured(0)


async def test_notifications_arrive_in_order_even_if_handlers_wait(net):
    seen = []
    done = asyncio.Event()

    async def note(name, message):
        await asyncio.sleep(0.002 if len(seen) % 2 else 0)
        seen.append((name, int(message.text)))
        if len(seen) == 50:
            done.set()

    await net.serve(note)
    client = await net.connect("rollout-0")
    for number in range(50):
        await client.notify(Log("info", str(number)))
    await asyncio.wait_for(done.wait(), 5)
    assert seen == [("rollout-0", number) for number in range(50)]


async def test_a_known_error_keeps_its_type(net):
    async def refuse(_name, _message):
        raise RewardError("reward 'judge' raised")

    await net.serve(refuse)
    client = await net.connect()
    with pytest.raises(RewardError, match=r"^reward 'judge' raised$"):
        await client.request(Stop(), timeout=5, what="ask")


async def test_an_unknown_error_names_the_peer_its_type_and_text(net):
    async def broken(_message):
        raise KeyError("lost")

    server = await net.serve()
    await net.connect(handler=broken)
    with pytest.raises(PeerFailed, match="policy: internal error, KeyError: 'lost'"):
        await server.request("policy", Stop(), timeout=5, what="ask")


async def test_an_error_on_a_notification_reaches_on_error(net):
    async def broken(_name, _message):
        raise ValueError("bad group")

    await net.serve(broken)
    client = await net.connect()
    await client.notify(Log("info", "x"))
    await net.until(lambda: net.errors)
    [(peer, error)] = net.errors
    assert peer == "policy"
    assert repr(error) == "ValueError('bad group')"


async def test_a_timeout_names_the_request_and_the_peer(net):
    async def never(_message):
        await asyncio.sleep(60)

    server = await net.serve()
    await net.connect(handler=never)
    with pytest.raises(WaitTimeout, match=r"training step 7: no answer from policy within 0.1 s") as caught:
        await server.request("policy", TrainStep(7), timeout=0.1, what="training step 7")
    assert isinstance(caught.value, TimeoutError)


async def test_a_late_answer_is_not_matched_to_the_next_request(net):
    async def late(_name, message):
        await asyncio.sleep(0.2 if message.metrics["n"] == 0 else 0.4)
        return message

    await net.serve(late)
    client = await net.connect()
    with pytest.raises(WaitTimeout):
        await client.request(measured(0), timeout=0.05, what="first")
    assert await client.request(measured(1), timeout=5, what="second") == measured(1)


async def test_a_peer_that_never_connected_is_named(net):
    server = await net.serve()
    with pytest.raises(PeerFailed, match="rollout-0 is not connected"):
        await server.notify("rollout-0", Stop())


async def test_sending_to_a_peer_that_left_is_an_error(net, monkeypatch):
    monkeypatch.setattr("rlx.transport.server.GONE_SECONDS", 0.5)
    server = await net.serve()
    client = await net.connect()
    await client.close()

    async def talk_on():
        while True:
            await server.notify("policy", Stop())
            await asyncio.sleep(0.01)

    with pytest.raises(PeerFailed, match="policy is not connected any more"):
        await asyncio.wait_for(talk_on(), 5)


async def test_peers_lists_connected_clients(net):
    server = await net.serve()
    client = await net.connect("rollout-0", attempt=4)
    before = server.peers()["rollout-0"].last_heard
    await client.request(Stop(), timeout=5, what="anything")
    state = server.peers()["rollout-0"]
    assert (state.attempt, state.pid) == (4, os.getpid())
    assert state.last_heard > before


async def test_heartbeats_keep_a_silent_peer_fresh(net, monkeypatch):
    monkeypatch.setattr("rlx.transport.client.HEARTBEAT_SECONDS", 0.02)
    server = await net.serve()
    await net.connect()
    first = server.peers()["policy"].last_heard
    await net.until(lambda: server.peers()["policy"].last_heard > first)


async def test_a_heartbeat_failure_is_reported(net, monkeypatch):
    monkeypatch.setattr("rlx.transport.client.HEARTBEAT_SECONDS", 0.02)
    await net.serve()
    errors = []
    client = await net.connect(on_error=lambda peer, error: errors.append((peer, str(error))))
    monkeypatch.setattr(client._conversation, "notify_once", lambda _body: 1 / 0)
    await net.until(lambda: errors)
    assert errors == [("controller", "division by zero")]


async def test_a_taken_port_is_a_usage_error(net):
    await net.serve()
    second = Server(net.endpoint("controller"), {}, echo)
    try:
        with pytest.raises(UsageError, match=rf"cannot listen on 127.0.0.1:{net.port}.*run.port"):
            await second.start()
    finally:
        await second.close()


async def test_ten_thousand_messages_both_ways(net):
    seen = 0

    async def count(_name, message):
        nonlocal seen
        seen += 1
        return message

    await net.serve(count)
    client = await net.connect()
    for number in range(10_000):
        await client.notify(measured(number))
    answers = [await client.request(measured(number), timeout=30, what="count") for number in range(100)]
    assert answers == [measured(number) for number in range(100)]
    await net.until(lambda: seen == 10_100, seconds=30)
