"""Admission to the controller: keys, names, attempts."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress

import msgspec
import pytest
import zmq
import zmq.asyncio

from rlx.errors import PeerFailed, WaitTimeout
from rlx.transport.envelope import Envelope, decode_envelope, decode_error, encode_envelope
from rlx.transport.keys import KeyPair
from rlx.transport.messages import Hello, Log, Ok, Stop, encode


@pytest.fixture
def serve_recording(net):
    """Start a server that records every message its handler gets in `.messages`."""
    messages = []

    async def record(name, message):
        messages.append((name, message))

    async def start():
        return await net.serve(record)

    start.messages = messages
    return start


@contextmanager
def raw_socket(net):
    """Connect a socket that has the policy's keys, for sending any frames."""
    with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as raw:
        raw.linger = 0
        endpoint = net.endpoint("policy")
        raw.curve_serverkey, raw.curve_publickey, raw.curve_secretkey = (
            key.encode() for key in (endpoint.server_public, endpoint.public, endpoint.secret)
        )
        raw.connect(f"tcp://127.0.0.1:{net.port}")
        yield raw


async def still_serves(net):
    client = await net.connect("launcher", attempt=99)
    assert await client.request(Stop(), timeout=5, what="still there?") == Ok()


async def test_a_key_of_another_run_is_refused(net, serve_recording):
    server = await serve_recording()
    stranger = KeyPair.make()
    endpoint = msgspec.structs.replace(net.endpoint("policy"), public=stranger.public, secret=stranger.secret)
    with pytest.raises(WaitTimeout, match=r"policy connects to the controller at 127.0.0.1"):
        await net.client("policy", endpoint=endpoint).connect(0.5)
    assert server.peers() == {}
    await still_serves(net)


async def test_a_wrong_server_key_is_refused(net, serve_recording):
    await serve_recording()
    endpoint = msgspec.structs.replace(net.endpoint("policy"), server_public=KeyPair.make().public)
    with pytest.raises(WaitTimeout):
        await net.client("policy", endpoint=endpoint).connect(0.5)
    await still_serves(net)


async def test_a_peer_without_a_key_is_refused(net, serve_recording):
    await serve_recording()
    with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as plain:
        plain.linger = 0
        plain.connect(f"tcp://127.0.0.1:{net.port}")
        with suppress(zmq.Again):  # after a failed handshake, a blocking send would wait forever
            frames = [encode_envelope(Envelope("ask", 1, 1)), encode(Hello("policy", 1, 1))]
            await plain.send_multipart(frames, zmq.NOBLOCK)
        assert await plain.poll(500) == 0
    assert serve_recording.messages == []
    await still_serves(net)


async def test_bytes_of_another_protocol_do_not_stop_the_server(net, serve_recording):
    await serve_recording()
    _, writer = await asyncio.open_connection("127.0.0.1", net.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n" * 100)
    await asyncio.sleep(0.05)
    writer.close()
    await still_serves(net)


async def test_a_key_cannot_be_used_under_another_name(net, serve_recording):
    server = await serve_recording()
    with pytest.raises(PeerFailed, match=r"'policy' \(attempt 1\) used the key of 'rollout-0'"):
        await net.client("policy", endpoint=net.endpoint("rollout-0")).connect(5)
    assert server.peers() == {}


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"\xff\xff", b"junk"],
        [b"a", b"b", b"c"],
        [encode_envelope(Envelope("ask", 1, 1)), b"junk"],
        [msgspec.msgpack.encode(["shout", 1, 1]), encode(Stop())],
        [encode_envelope(Envelope("reply", 77, 1)), encode(Stop())],
        [encode_envelope(Envelope("error", 77, 1)), b"junk"],
        [encode_envelope(Envelope("tell", 0, 1)), msgspec.msgpack.encode({"type": "NoSuchMessage"})],
    ],
)
@pytest.mark.parametrize("greeted", [True, False])
async def test_invalid_frames_of_a_known_peer_do_not_stop_the_server(net, serve_recording, frames, greeted):
    await serve_recording()
    with raw_socket(net) as raw:
        if greeted:
            await raw.send_multipart([encode_envelope(Envelope("ask", 1, 1)), encode(Hello("policy", 1, 1))])
            await asyncio.wait_for(raw.recv_multipart(), 5)
        await raw.send_multipart(frames)
        await asyncio.sleep(0.02)
        await still_serves(net)
    assert [message for name, message in serve_recording.messages if name == "policy"] == []


async def test_an_older_attempt_is_refused_from_then_on(net, serve_recording):
    server = await serve_recording()
    old = await net.connect(attempt=1)
    new = await net.connect(attempt=2)
    with pytest.raises(PeerFailed, match="attempt 1 of policy is refused: attempt 2 has taken its place"):
        await old.request(Stop(), timeout=5, what="old")
    await old.notify(Log("info", "from the old one"))
    assert await new.request(Stop(), timeout=5, what="new") == Ok()
    with pytest.raises(PeerFailed, match="attempt 1 of policy is refused"):
        await net.client(attempt=1).connect(5)
    assert server.peers()["policy"].attempt == 2
    assert serve_recording.messages == [("policy", Stop())]


async def test_requests_to_a_replaced_attempt_fail(net, serve_recording):
    async def never(_message):
        await asyncio.sleep(60)

    server = await serve_recording()
    await net.connect(attempt=1, handler=never)
    asked = asyncio.create_task(server.request("policy", Stop(), timeout=30, what="a step"))
    await asyncio.sleep(0.05)
    await net.connect(attempt=2)
    with pytest.raises(PeerFailed, match="policy: attempt 1 was replaced"):
        await asked


async def test_the_first_message_must_be_hello(net, serve_recording):
    await serve_recording()
    with raw_socket(net) as raw:
        await raw.send_multipart([encode_envelope(Envelope("ask", 5, 1)), encode(Stop())])
        envelope, body = await asyncio.wait_for(raw.recv_multipart(), 5)
    assert decode_envelope(envelope) == Envelope("error", 5, 1)
    assert str(decode_error("controller", body)) == "the first message of policy must be Hello, not Stop"
    assert serve_recording.messages == []
