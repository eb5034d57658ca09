"""Sender and receivers of a weight transfer, each in a thread with a transfer group of its own."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from rlx.errors import SyncError
from rlx.sync import transfer_group
from rlx.sync.buckets import bucket_bytes, manifest_of, pack_bucket, receive_buckets, send_buckets, total_bytes
from rlx.sync.sender import Sender
from rlx.transport.messages import InitTransfer, Ok, OpenTransfer, TransferFailed, WeightsSent

TIMEOUT = 10.0


@pytest.fixture
def groups():
    """The transfer groups of a sender and two receivers."""
    store, port = transfer_group.open_store("127.0.0.1", 3, TIMEOUT)
    with ThreadPoolExecutor(3) as pool:
        joined = list(pool.map(lambda rank: transfer_group.join("127.0.0.1", port, rank, 3, "gloo", TIMEOUT), range(3)))
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


def _manifest(weights):
    return manifest_of(bucket.items() for bucket in weights)


def _receive(group, version, manifest):
    buckets = receive_buckets(group, version, manifest)
    return [{name: tensor.clone() for name, tensor in bucket} for bucket in buckets]


def _move(groups, *, sent, expected_manifest=None, version=1, expected_version=1):
    """Run the sender and all receivers at once, and return their futures."""
    sender, *receivers = groups
    tensors = [list(bucket.values()) for bucket in sent]
    manifest = _manifest(sent)
    with ThreadPoolExecutor(3) as pool:
        sending = pool.submit(send_buckets, sender, version, manifest, tensors)
        receiving = [
            pool.submit(_receive, group, expected_version, expected_manifest or manifest) for group in receivers
        ]
    return sending, receiving


def test_every_receiver_gets_every_tensor_bit_for_bit(groups):
    weights = _weights()
    for version in (1, 2):
        sending, receiving = _move(groups, sent=weights, version=version, expected_version=version)
        sending.result()
        assert total_bytes(_manifest(weights)) == (21 + 1) * 4 + 10 * 2 + 3 * 8 + 11 * 4
        for received in receiving:
            for bucket, original in zip(received.result(), weights, strict=True):
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
        (lambda weights: weights, 2, r"bucket 0 of version 2: expected version 2, got 1"),
        (_renamed, 1, r"bucket 0 .*layout digest"),
        (lambda weights: weights[:-1], 1, r"the end mark .*expected bucket -1, got 2"),
        (lambda weights: [weights[1], weights[0], weights[2]], 1, r"bucket 0 .*bytes"),
    ],
    ids=["another version", "another name", "fewer buckets", "another order"],
)
def test_a_receiver_refuses_a_stream_that_differs_from_its_manifest(groups, expect, version, message):
    # A receiver that refuses a stream leaves it, so the sender's next broadcast must time out soon.
    for group in groups:
        group.timeout = 1.0
    _, receiving = _move(
        groups, sent=_weights(), expected_manifest=_manifest(expect(_weights())), expected_version=version
    )
    for received in receiving:
        with pytest.raises(SyncError, match=message):
            received.result()


def test_a_sender_that_stops_half_way_is_an_error_on_both_ends(groups):
    for group in groups:
        group.timeout = 1.0
    weights = _weights()
    tensors = [list(bucket.values()) for bucket in weights]
    with ThreadPoolExecutor(3) as pool:
        sending = pool.submit(send_buckets, groups[0], 1, _manifest(weights), iter(tensors[:2]))
        receiving = [pool.submit(_receive, group, 1, _manifest(weights)) for group in groups[1:]]
    with pytest.raises(SyncError, match="ended after 2 of 3 buckets"):
        sending.result()
    for received in receiving:
        with pytest.raises(SyncError, match="broke at the header of bucket 2"):
            received.result()


def test_a_peer_that_leaves_is_noticed_at_once(groups):
    weights = _weights()
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        receiving = pool.submit(_receive, groups[1], 1, _manifest(weights))
        time.sleep(0.2)
        groups[0].close()
        with pytest.raises(SyncError, match="rank 1 of 3"):
            receiving.result()
    assert time.monotonic() - started < TIMEOUT


def test_a_policy_whose_receiver_dies_gathers_to_the_end_and_can_send_again():
    """The other ranks of the policy gather, too: a rank that stops half way leaves them out of step."""
    weights = _weights()
    sender = Sender(_manifest(weights), rank=0, backend="gloo")
    gathered = []

    def gather():
        for bucket in weights:
            gathered.append(list(bucket))
            yield iter(bucket.items())

    def receive(address, dies):
        group = transfer_group.join("127.0.0.1", address.port, 1, 2, "gloo", TIMEOUT)
        if not dies:
            return _receive(group, 2, _manifest(weights))
        group.close()
        return []

    for version, dies in ((1, True), (2, False)):
        address = sender.open(OpenTransfer(2, TIMEOUT))
        with ThreadPoolExecutor(1) as pool:
            receiving = pool.submit(receive, address, dies)
            assert sender.join(InitTransfer("127.0.0.1", address.port, 2, 0, "gloo", TIMEOUT, [])) == Ok()
            began = time.monotonic()
            answer = sender.send(version, gather())
            assert time.monotonic() - began < TIMEOUT / 2
        assert isinstance(answer, TransferFailed if dies else WeightsSent), answer
        assert gathered == [list(bucket) for bucket in weights]
        gathered.clear()
    assert [list(bucket) for bucket in receiving.result()] == [list(bucket) for bucket in weights]
    sender.close()


def test_a_policy_whose_receiver_does_not_join_says_so():
    sender = Sender([], rank=0, backend="gloo")
    address = sender.open(OpenTransfer(2, 1.0))
    answer = sender.join(InitTransfer("127.0.0.1", address.port, 2, 0, "gloo", 1.0, []))
    assert isinstance(answer, TransferFailed)
    assert "rank 0 of 2 could not join the weight transfer" in answer.error
    sender.close()


@pytest.mark.parametrize(
    "tensor", [torch.zeros(3, 7), torch.zeros(7, 3, dtype=torch.bfloat16)], ids=["another shape", "another dtype"]
)
def test_a_tensor_that_is_not_as_announced_is_not_packed(tensor):
    metas = _manifest(_weights())[0]
    with pytest.raises(SyncError, match="embed was announced as float32"):
        pack_bucket([tensor, torch.tensor(1.0)], metas, torch.zeros(bucket_bytes(metas), dtype=torch.uint8))


def test_a_failed_join_names_the_address_and_the_timeout():
    with pytest.raises(SyncError, match=r"rank 1 of 2 could not join .* at 127.0.0.1:9 within 1 s"):
        transfer_group.join("127.0.0.1", 9, 1, 2, "gloo", 1)
    store, port = transfer_group.open_store("127.0.0.1", 2, 1)
    with pytest.raises(SyncError, match=r"rank 1 of 2 could not join"):
        transfer_group.join("127.0.0.1", port, 1, 2, "gloo", 1)
    with pytest.raises(SyncError, match=r"no backend 'mpi'; choose from gloo, nccl"):
        transfer_group.join("127.0.0.1", port, 1, 2, "mpi", 1)
    del store


def test_the_store_listens_on_its_address_only():
    store, port = transfer_group.open_store("127.0.0.1", 1, TIMEOUT)
    with pytest.raises(OSError):
        # 127.0.0.2 is another address of this machine.
        socket.create_connection(("127.0.0.2", port), timeout=1)
    del store
