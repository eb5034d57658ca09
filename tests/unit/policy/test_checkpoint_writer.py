"""Writing of checkpoints by several ranks, each a thread here, in the background."""

from __future__ import annotations

import queue
import random
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from rlx.errors import RunError
from rlx.files import file_sum
from rlx.policy.weights import writer
from rlx.policy.weights.checkpoint import read_state, read_weights, weight_names
from rlx.policy.weights.staging import Shard, _Chunk, assign
from rlx.policy.weights.writer import Writer


class Rank:
    """One of `size` ranks, with half of a matrix and a vector of its own."""

    def __init__(self, rank, size, store, reports):
        ranks = SimpleNamespace(rank=rank, size=size, data_size=size, broadcast_bytes=lambda _: b"token")
        self.shards = {
            "model.matrix": Shard([2 * rank, 0], torch.arange(6.0).reshape(2, 3) + 6 * rank),
            f"model.own_{rank}": Shard([0], torch.full((4,), float(rank))),
        }
        report = lambda step, written: reports.put((step, written))  # noqa: E731
        self.writer = Writer(ranks, SimpleNamespace(copy=lambda: self.shards), lambda: store, report)


@pytest.fixture
def ranks():
    """`ranks(2)`: ranks that share a store, and the queue of rank 0's reports."""
    made = []

    def make(size):
        store, reports = dist.HashStore(), queue.Queue()
        made.extend(Rank(rank, size, store, reports) for rank in range(size))
        return made, reports

    yield make
    for rank in made:
        rank.writer.close()


@pytest.mark.parametrize("file_bytes", [1 << 30, 1, 24])
def test_all_ranks_files_are_reported_once_they_are_on_disk(ranks, tmp_path, monkeypatch, file_bytes):
    monkeypatch.setattr(writer, "FILE_BYTES", file_bytes)
    both, reports = ranks(2)
    for step in (3, 4):
        folder = tmp_path / str(step)
        for rank in reversed(both):
            rank.writer.begin(folder, step, 30)
        reported, written = reports.get(timeout=30)
        assert (reported, written.error) == (step, "")
        assert written.files == {path.name: file_sum(path) for path in folder.iterdir()}
        assert len(written.files) == 1 + 2 * (1 if file_bytes > 24 else 2)
        assert read_state(folder).step == step
        assert weight_names(folder) == {"matrix", "own_0", "own_1"}
        whole = {"matrix": torch.zeros(4, 3), "own_1": torch.zeros(4)}
        read_weights(folder, whole)
        assert torch.equal(whole["matrix"], torch.arange(12.0).reshape(4, 3))
        assert torch.equal(whole["own_1"], torch.ones(4))


@pytest.mark.parametrize("failing", [0, 1])
def test_a_rank_that_cannot_write_is_named(ranks, tmp_path, monkeypatch, failing):
    save_file = writer.save_file

    def full(tensors, file, metadata):
        if file.name.startswith(f"rank_0000{failing}"):
            raise OSError(28, "No space left on device")
        save_file(tensors, file, metadata=metadata)

    monkeypatch.setattr(writer, "save_file", full)
    both, reports = ranks(2)
    for rank in both:
        rank.writer.begin(tmp_path / "c", 3, 30)
    _, written = reports.get(timeout=30)
    assert written.error == f"policy rank {failing}: OSError: [Errno 28] No space left on device. Is the disk full?"
    with pytest.raises(RunError, match="isn't a complete checkpoint"):
        read_state(tmp_path / "c")


def test_a_rank_that_never_writes_is_named_after_the_time_limit(ranks, tmp_path):
    both, reports = ranks(3)
    for rank in both[:2]:
        rank.writer.begin(tmp_path / "c", 3, 0.2)
    _, written = reports.get(timeout=30)
    assert written.error == "policy rank 2 did not write its files in time. Is the disk stuck?"


def test_a_copy_is_not_overwritten_while_it_is_written(ranks, tmp_path, monkeypatch):
    go_on = queue.Queue()
    save_file = writer.save_file
    monkeypatch.setattr(writer, "save_file", lambda *args, **options: (go_on.get(), save_file(*args, **options)))
    (only,), reports = ranks(1)
    only.writer.begin(tmp_path / "a", 3, 30)
    with pytest.raises(RunError, match="asked for a checkpoint of step 4 while it still writes one"):
        only.writer.begin(tmp_path / "b", 4, 30)
    go_on.put(None)
    assert reports.get(timeout=30)[1].error == ""


def test_each_chunk_has_one_writer_among_its_holders():
    """Replicated and sharded chunks at random: each is written once, by a holder, and the load is even."""
    draw = random.Random(0)
    for _ in range(20):
        size = draw.randrange(1, 9)
        held = [[] for _ in range(size)]
        chunks = [_Chunk(f"t{index}", (0,), draw.randrange(1, 1000)) for index in range(60)]
        for chunk in chunks:
            for rank in draw.sample(range(size), draw.randrange(1, size + 1)):
                held[rank].append(chunk)
        written = assign(held)
        assert Counter(chunk for part in written for chunk in part) == Counter(dict.fromkeys(chunks, 1))
        assert all(set(part) <= set(own) for part, own in zip(written, held, strict=True))
    replicated = assign([[_Chunk(f"t{index}", (0,), 10) for index in range(40)]] * 4)
    assert [len(part) for part in replicated] == [10, 10, 10, 10]
