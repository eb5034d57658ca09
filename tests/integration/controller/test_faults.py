"""Faults that a run survives or names, and that no other test of the controller is about: docs/faults.md lists all."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import time

import pytest

from rlx.controller.records import checkpoint, trajectories


@pytest.mark.parametrize("k", [0, 2])
async def test_a_replica_that_is_ten_times_slower_fails_nothing_and_gets_fewer_groups(make_run, script, k):
    """With staleness the next group goes to the replica with the fewest leases; a synchronous step has no choice."""
    run = make_run(k=k, steps=8, groups=12, replicas=3, script=script(sample_seconds=0.01))
    slow = run.replicas["rollout-2"]
    sample = slow.sample

    async def sample_slowly(lease):
        await asyncio.sleep(0.2)
        await sample(lease)

    slow.sample = sample_slowly
    ended = await run()
    assert ended.status == "done", ended.error
    assert (ended.summary["rollout/restarts"], ended.summary["groups/lost"]) == (0, 0)
    assert set(run.times_trained().values()) == {1}
    leased = {name: sum(len(batch.leases) for batch in replica.leases) for name, replica in run.replicas.items()}
    if k:
        assert leased["rollout-2"] < 0.7 * min(leased["rollout-0"], leased["rollout-1"]), leased


async def test_a_wall_clock_that_jumps_by_hours_changes_nothing(make_run, script, monkeypatch):
    """All limits (heartbeats, stalls, starts, requests) are far below the jumps of the clock, which is never right."""
    jumps, now = random.Random(7), time.time
    monkeypatch.setattr(time, "time", lambda: now() + jumps.choice((-7, -1, 1, 7)) * 3600)
    limits = {"heartbeat_seconds": 30.0, "stall_seconds": 60.0, "start_seconds": 60.0}
    peers = script(sample_seconds=0.01, train_seconds=0.05)
    run = make_run(k=1, steps=6, run=limits, script=peers, checkpoint={"every": 2})
    ended = await run()
    assert ended.status == "done", ended.error
    assert 0 < ended.summary["seconds"] < 20
    assert ended.summary["rollout/restarts"] == 0
    assert not [line.text for line in run.logs if line.level == "warning"]
    assert all(0 < step.metrics["time/step"] < 20 for step in run.metrics)


async def test_a_slow_disk_only_slows_the_run_down(make_run, script, monkeypatch):
    def slow(path, *args, **kwargs):
        time.sleep(0.3)
        trajectories.write_groups(path, *args, **kwargs)

    monkeypatch.setattr("rlx.controller.modes.trajectory_writer.write_groups", slow)
    run = make_run(steps=4, script=script(), checkpoint={"every": 2})
    ended = await run()
    assert ended.status == "done", ended.error
    assert len(list((run.run_dir / "trajectories").glob("step_*.parquet"))) == 4
    assert not [line.text for line in run.logs if line.level == "warning"]


@pytest.mark.parametrize(
    ("number", "question"),
    [
        (errno.ENOSPC, " Is the disk full?"),
        (errno.EDQUOT, " Is your quota of the disk used up?"),
        (errno.EROFS, " Is it mounted read-only?"),
        (errno.EIO, " The disk itself reports the error"),
        (errno.EACCES, ""),
    ],
)
async def test_a_disk_that_refuses_ends_the_run_with_the_file_and_the_usual_cause(
    make_run, monkeypatch, number, question
):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checkpoint, "write_atomic", refuse)
    ended = await make_run(steps=2, checkpoint={"every": 1})()
    assert ended.status == "failed"
    expected = f"the checkpoint of version 1 cannot be written: [Errno {number}] {os.strerror(number)}.{question}"
    assert expected in ended.error
