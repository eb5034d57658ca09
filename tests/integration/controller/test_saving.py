"""Checkpoints that are written while training goes on."""

from __future__ import annotations

import asyncio
import time

import pytest

from rlx.controller.records import checkpoint
from rlx.launch.run_dir import newest_checkpoint, rewind
from rlx.transport.messages import SaveNow

SLOW = 0.6


def events(run) -> list[str]:
    return [path.name for path in checkpoint.committed(run.run_dir)]


@pytest.mark.parametrize("rollouts", [True, False])
async def test_training_goes_on_while_a_checkpoint_is_written(make_run, script, rollouts):
    """Without this, steps 2 and 3 would be trained after the checkpoint of version 2 only."""
    seen = {}

    async def at_train(run, step):
        seen[step] = events(run)

    peers = script(at_train=at_train, write_seconds=SLOW)
    run = make_run(rollouts=rollouts, steps=4, checkpoint={"every": 2}, script=peers)
    began = time.monotonic()
    ended = await run()
    assert ended.status == "done", ended.error
    assert seen == {0: [], 1: [], 2: [], 3: []}
    assert events(run) == ["step_00002", "step_00004"]
    assert time.monotonic() - began > 2 * SLOW, "the second one waited for the first, and the end for the second"
    (waited,) = [line.text for line in run.logs if "waits until that of version 2 is written" in line.text]
    assert waited.startswith("the checkpoint of version 4")
    blocked, written = (ended.summary[f"time/checkpoint_{name}"] for name in ("blocked", "write"))
    assert written == pytest.approx(2 * SLOW)
    assert SLOW / 2 < blocked < 1.5 * SLOW, "the wait of the second checkpoint for the first one counts"
    of_steps = {m.step: m.metrics for m in run.metrics if m.kind == "train"}
    assert 0 < of_steps[2]["time/checkpoint_blocked"] < SLOW / 2, "version 2 was copied between steps 1 and 2"
    assert of_steps[1]["time/checkpoint_blocked"] == 0


async def test_a_checkpoint_is_of_the_moment_of_its_copy(make_run, script):
    """Steps, groups and evaluations that end while it is written are not in it."""
    section = {"dataset": {"name": "held_out"}, "every": 3}
    peers = script(write_seconds=SLOW)
    run = make_run(steps=4, checkpoint={"every": 2, "keep": 0}, script=peers, eval=section)
    assert (await run()).status == "done"
    first, last = (checkpoint.load(path) for path in checkpoint.committed(run.run_dir))
    assert (first.version, first.next_group_id) == (2, 8)
    assert [found["step"] for found in first.evaluations] == [0]
    assert (last.version, last.next_group_id) == (4, 16)


@pytest.mark.parametrize("killed_at", [0.0, SLOW / 2, SLOW * 2])
async def test_a_kill_at_any_moment_leaves_the_old_or_the_new_checkpoint(make_run, script, killed_at):
    async def at_train(run, step):
        if step == 4:
            await asyncio.sleep(killed_at)
            dying.cancel()
            await asyncio.sleep(30)

    run = make_run(steps=6, checkpoint={"every": 2, "keep": 1}, script=script(at_train=at_train, write_seconds=SLOW))
    dying = asyncio.create_task(run())
    with pytest.raises(asyncio.CancelledError):
        await dying
    (left,) = checkpoint.committed(run.run_dir)
    assert left.name == ("step_00002" if killed_at < SLOW else "step_00004")
    assert checkpoint.verify_checkpoint(left) == []
    assert (left / "policy" / "weights").read_text() == str(checkpoint.load(left).version)


async def test_a_checkpoint_that_a_rank_cannot_write_ends_the_run(make_run, script):
    peers = script(write_errors={2: "policy rank 3: OSError: No space left on device"}, train_seconds=0.05)
    run = make_run(steps=6, checkpoint={"every": 2}, script=peers)
    ended = await run()
    assert ended.status == "failed"
    assert "the checkpoint of version 2 cannot be written: policy rank 3: OSError: No space left" in ended.error
    assert "step_00002" not in events(run)


async def test_a_run_that_fails_waits_for_the_checkpoint_that_is_being_written(make_run, script):
    run = make_run(steps=6, checkpoint={"every": 2}, script=script(write_seconds=SLOW, fails={9}))
    ended = await run()
    assert ended.status == "failed"
    assert "boom" in ended.error
    assert events(run) == ["step_00002"]
    assert checkpoint.verify_checkpoint(checkpoint.committed(run.run_dir)[0]) == []


@pytest.mark.parametrize("rollouts", [True, False])
async def test_checkpoints_are_due_by_time(make_run, script, rollouts):
    """Steps take 0.3 s: every second, a step ends that is the first one a second after the last checkpoint."""
    peers = script(train_seconds=0.3)
    run = make_run(rollouts=rollouts, steps=6, checkpoint={"every_seconds": 1, "keep": 0}, script=peers)
    assert (await run()).status == "done"
    versions = [checkpoint.version_of(path) for path in checkpoint.committed(run.run_dir)]
    assert len(versions) == 2, versions
    assert 3 <= versions[0] <= 4
    assert versions[1] == 6


async def test_a_checkpoint_by_steps_puts_off_the_one_by_time(make_run, script):
    sections = {"checkpoint": {"every_seconds": 1, "every": 2, "keep": 0}}
    run = make_run(steps=6, script=script(train_seconds=0.3), **sections)
    assert (await run()).status == "done"
    assert events(run) == ["step_00002", "step_00004", "step_00006"]


async def test_a_checkpoint_on_request_follows_the_current_step_and_the_run_goes_on(make_run, script):
    async def at_train(run, step):
        if step == 2:
            await run.notify(SaveNow("SIGUSR1 in the launcher"))
            await asyncio.sleep(0.1)

    run = make_run(steps=5, script=script(at_train=at_train))
    assert (await run()).status == "done"
    assert events(run) == ["step_00003", "step_00005"]
    assert any(line.text.startswith("saving: SIGUSR1 in the launcher.") for line in run.logs)


async def test_a_request_before_the_run_has_begun_saves_nothing(make_run, script):
    async def at_start(run):
        await run.notify(SaveNow("SIGUSR1 in the launcher"))
        await asyncio.sleep(0.1)

    run = make_run(steps=3, script=script(at_start=at_start))
    assert (await run()).status == "done"
    assert events(run) == ["step_00003"]
    assert any(line.text.startswith("nothing to save: SIGUSR1 in the launcher.") for line in run.logs)


@pytest.mark.parametrize("k", [0, 2])
async def test_a_resume_falls_back_over_damaged_checkpoints_and_loses_nothing(make_run, script, k):
    """The ledger knows later steps, and has deleted episodes that only the damaged checkpoints do without."""
    options = {"k": k, "steps": 6, "checkpoint": {"every": 2, "keep": 0}}
    first = make_run(**options)
    assert (await first()).status == "done"
    for version in (4, 6):
        (first.run_dir / "checkpoints" / f"step_{version:05d}" / "policy" / "weights").write_text("?")
    said: list[str] = []
    found = newest_checkpoint(first.run_dir, said.append)
    assert found.name == "step_00002"
    assert [line.split()[0] for line in said[:2]] == ["checkpoints/step_00006", "checkpoints/step_00004"]
    rewind(first.run_dir, found)
    second = make_run(**options, resume=f"checkpoints/{found.name}")
    ended = await second()
    assert ended.status == "done", ended.error
    assert ended.summary["groups/lost"] == 0
    before = {group for step in first.trained[:2] for group, _ in step}
    after = [group for step in second.trained for group, _ in step]
    assert len(after) == len(set(after)) == 4 * 4
    assert not before & set(after), "trained twice"
    assert events(second) == ["step_00002", "step_00004", "step_00006"]
