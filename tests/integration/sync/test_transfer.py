"""Both ends of the wire, each in a thread with a transfer group of its own."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from rlx.errors import SyncError
from rlx.sync import transfer_group as wire

TIMEOUT = 10.0


@pytest.fixture
def groups():
    """A sender and two receivers."""
    store, port = wire.open_store("127.0.0.1", 3, TIMEOUT)
    with ThreadPoolExecutor(3) as pool:
        joined = list(pool.map(lambda rank: wire.join("127.0.0.1", port, rank, 3, "gloo", TIMEOUT), range(3)))
    yield joined
    for group in joined:
        group.close()
    del store


def _weights():
    generator = torch.Generator().manual_seed(0)
    return [
        {"embed": torch.randn(7, 3, generator=generator), "scalar": torch.tensor(4.0)},
        {"layer.0": torch.randn(5, 2, generator=generator).to(torch.bfloat16), "count": torch.arange(3)},
        {"layer.1": torch.randn(11, generator=generator), "empty": torch.empty(0, 4)},
    ]


def _plan(weights):
    return [[wire.meta_of(name, tensor) for name, tensor in bucket.items()] for bucket in weights]


def _receive(group, version, plan):
    return [{name: tensor.clone() for name, tensor in bucket} for bucket in wire.receive_buckets(group, version, plan)]


def _move(groups, *, sent, expected_plan=None, version=1, expected_version=1):
    """Runs all ends at once; what each returned or raised."""
    sender, *receivers = groups
    tensors = [list(bucket.values()) for bucket in sent]
    plan = _plan(sent)
    with ThreadPoolExecutor(3) as pool:
        sending = pool.submit(wire.send_buckets, sender, version, plan, tensors)
        receiving = [pool.submit(_receive, group, expected_version, expected_plan or plan) for group in receivers]
    return sending, receiving


def test_every_receiver_gets_every_tensor_bit_for_bit(groups):
    weights = _weights()
    for version in (1, 2):
        sending, receiving = _move(groups, sent=weights, version=version, expected_version=version)
        assert sending.result() == wire.plan_bytes(_plan(weights)) == (21 + 1) * 4 + 10 * 2 + 3 * 8 + 11 * 4
        for got in receiving:
            for bucket, original in zip(got.result(), weights, strict=True):
                assert list(bucket) == list(original)
                for name, tensor in bucket.items():
                    assert tensor.dtype == original[name].dtype
                    assert torch.equal(tensor, original[name])


def _renamed(weights):
    first, *rest = weights
    return [{"other": first["embed"], "scalar": first["scalar"]}, *rest]


@pytest.mark.parametrize(
    ("expect", "version", "message"),
    [
        (lambda weights: weights, 2, r"bucket 0 of version 2: version 2 expected, 1 came"),
        (_renamed, 1, r"bucket 0 .*layout digest"),
        (lambda weights: weights[:-1], 1, r"the end mark .*bucket -1 expected, 2 came"),
        (lambda weights: [weights[1], weights[0], weights[2]], 1, r"bucket 0 .*bytes"),
    ],
    ids=["another version", "another name", "fewer buckets", "another order"],
)
def test_a_receiver_takes_nothing_but_what_it_was_promised(groups, expect, version, message):
    # A receiver that refuses stops taking part, so the sender's next broadcast must not hang either.
    for group in groups:
        group.timeout = 1.0
    _, receiving = _move(groups, sent=_weights(), expected_plan=_plan(expect(_weights())), expected_version=version)
    for got in receiving:
        with pytest.raises(SyncError, match=message):
            got.result()


def test_a_sender_that_stops_half_way_is_an_error_on_both_ends(groups):
    for group in groups:
        group.timeout = 1.0
    weights = _weights()
    tensors = [list(bucket.values()) for bucket in weights]
    with ThreadPoolExecutor(3) as pool:
        sending = pool.submit(wire.send_buckets, groups[0], 1, _plan(weights), iter(tensors[:2]))
        receiving = [pool.submit(_receive, group, 1, _plan(weights)) for group in groups[1:]]
    with pytest.raises(SyncError, match="ended after 2 of 3 buckets"):
        sending.result()
    for got in receiving:
        with pytest.raises(SyncError, match="broke at the header of bucket 2"):
            got.result()


def test_a_peer_that_leaves_is_noticed_at_once(groups):
    weights = _weights()
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        receiving = pool.submit(_receive, groups[1], 1, _plan(weights))
        time.sleep(0.2)
        groups[0].close()
        with pytest.raises(SyncError, match="rank 1 of 3"):
            receiving.result()
    assert time.monotonic() - started < TIMEOUT


@pytest.mark.parametrize(
    "tensor", [torch.zeros(3, 7), torch.zeros(7, 3, dtype=torch.bfloat16)], ids=["another shape", "another dtype"]
)
def test_a_tensor_that_is_not_as_announced_is_not_packed(tensor):
    plan = _plan(_weights())[0]
    with pytest.raises(SyncError, match="embed was announced as float32"):
        wire.pack([tensor, torch.tensor(1.0)], plan, torch.zeros(wire.bucket_bytes(plan), dtype=torch.uint8))


def test_who_cannot_join_says_where_and_how_long():
    with pytest.raises(SyncError, match=r"rank 1 of 2 could not join .* at 127.0.0.1:9 within 1 s"):
        wire.join("127.0.0.1", 9, 1, 2, "gloo", 1)
    store, port = wire.open_store("127.0.0.1", 2, 1)
    with pytest.raises(SyncError, match=r"rank 1 of 2 could not join"):
        wire.join("127.0.0.1", port, 1, 2, "gloo", 1)
    with pytest.raises(SyncError, match=r"no backend 'mpi'; it has gloo, nccl"):
        wire.join("127.0.0.1", port, 1, 2, "mpi", 1)
    del store


def test_the_store_listens_on_its_address_only():
    store, port = wire.open_store("127.0.0.1", 1, TIMEOUT)
    with pytest.raises(OSError):
        # Another address of this machine.
        socket.create_connection(("127.0.0.2", port), timeout=1)
    del store
