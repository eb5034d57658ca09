"""Runs that are interrupted and resumed: no group is lost or trained twice."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from rlx.controller.groups.ledger import Ledger
from rlx.controller.records import checkpoint
from rlx.earlier.ledger import inspect_ledger
from rlx.episodes import decode_episodes
from rlx.fingerprint import Fingerprint, Fingerprints
from rlx.transport.messages import Drain

INFORMATIVE = {"group_size": 2, "drop_uninformative": True}


def newest(run) -> str:
    return f"checkpoints/{checkpoint.newest(run.run_dir).name}"


def payloads(run) -> dict[int, list[bytes]]:
    return {step.step: step.payloads for step in run.policy.steps}


async def interrupt(run, after_step: int) -> None:
    """Run until step `after_step` is being trained and the last checkpoint is written; then cancel the controller."""

    async def at_train(run, step):
        if step == after_step:
            every = run.config.checkpoint.every
            if every is not None and step // every * every > run.start_version:
                await run.until_saved(step // every * every)
            dying.cancel()
            await asyncio.sleep(30)

    run.script.at_train = at_train
    dying = asyncio.create_task(run())
    with pytest.raises(asyncio.CancelledError):
        await dying


@pytest.mark.parametrize("flat", [set(), {1, 6, 9, 19, 22}])
async def test_a_synchronous_run_continues_as_if_never_interrupted(make_run, script, tmp_path, tmp_path_factory, flat):
    bad = {number + 1 for number in flat}
    options = {"k": 0, "steps": 6, "algorithm": INFORMATIVE, "script": script(flat=flat, bad=bad)}
    first = make_run(checkpoint={"every": 2}, **options)
    await interrupt(first, after_step=5)
    assert newest(first) == "checkpoints/step_00004"
    second = make_run(checkpoint={"every": 2}, resume=newest(first), **options | {"script": script(flat=flat, bad=bad)})
    ended = await second()
    assert ended.status == "done", ended.error
    assert [status.step for status in second.statuses if status.state == "starting"][:1] in ([], [4])
    whole = make_run(run_dir=tmp_path_factory.mktemp("whole"), **options | {"script": script(flat=flat, bad=bad)})
    assert (await whole()).status == "done"
    assert ended.summary["rows/dropped"] == whole.ended.summary["rows/dropped"] == len(bad)
    assert {bad["row"] for bad in ended.summary["bad_rows"]} == {bad["row"] for bad in whole.ended.summary["bad_rows"]}
    assert ended.summary["groups/uninformative"] == whole.ended.summary["groups/uninformative"] == len(flat)
    both_attempts = {step: found for step, found in payloads(first).items() if step < 4} | payloads(second)
    assert both_attempts == payloads(whole)
    assert ended.summary["groups/lost"] == 0


async def test_an_sft_run_with_bad_rows_continues_as_if_never_interrupted(make_run, script, tmp_path_factory):
    options = {"rollouts": False, "steps": 12}
    bad = {1, 2, 9, 13}
    first = make_run(checkpoint={"every": 2}, script=script(bad=bad), **options)
    await interrupt(first, after_step=7)
    second = make_run(checkpoint={"every": 2}, resume=newest(first), script=script(bad=bad), **options)
    ended = await second()
    assert ended.status == "done", ended.error
    whole = make_run(run_dir=tmp_path_factory.mktemp("whole"), script=script(bad=bad), **options)
    assert (await whole()).status == "done"
    steps = {step.step: step.rows for step in [*first.policy.steps, *second.policy.steps]}
    assert steps == {step.step: step.rows for step in whole.policy.steps}
    for name in ("rows/dropped", "rows/dropped/too_long", "bad_rows"):
        assert ended.summary[name] == whole.ended.summary[name], name


async def test_an_sft_run_continues_in_the_middle_of_an_epoch_as_if_never_interrupted(
    make_run, script, tmp_path_factory
):
    """With 20 rows, 4 per step: interrupted in the second epoch, one step after its newest checkpoint."""
    options = {"rollouts": False, "steps": 15}
    first = make_run(checkpoint={"every": 2}, **options)
    await interrupt(first, after_step=8)
    assert newest(first) == "checkpoints/step_00008"
    second = make_run(checkpoint={"every": 2}, resume=newest(first), **options)
    ended = await second()
    assert ended.status == "done", ended.error
    whole = make_run(run_dir=tmp_path_factory.mktemp("whole"), **options)
    assert (await whole()).status == "done"
    expected = {step.step: step.rows for step in whole.policy.steps}
    assert {step.step: step.rows for step in [*first.policy.steps, *second.policy.steps]} == expected
    epochs = [[row for step in range(start, start + 5) for row in expected[step]] for start in (0, 5, 10)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [m.metrics["epoch"] for m in second.metrics if m.kind == "train"] == [step / 5 for step in range(9, 16)]


@pytest.mark.parametrize("seed", range(4))
async def test_a_run_with_staleness_loses_and_repeats_no_group(make_run, script, tmp_path, seed):
    rng = random.Random(seed)
    steps, k, resume = 8, 2, None
    trained: dict[int, list[int]] = {}
    for _ in range(3):
        peers = script(sample_seconds=0.01, drops={3, 11, 17}, flat={5, 11, 20, 21})
        run = make_run(k=k, steps=steps, checkpoint={"every": 2}, script=peers, resume=resume, algorithm=INFORMATIVE)
        await interrupt(run, after_step=min(run.start_version + rng.randrange(2, 4), steps - 1))
        trained |= {step.step: ids for step, ids in zip(run.policy.steps, ids_of(run), strict=True)}
        resume = newest(run)
    peers = script(drops={3, 11, 17}, flat={5, 11, 20, 21})
    last = make_run(k=k, steps=steps, checkpoint={"every": 2}, script=peers, resume=resume, algorithm=INFORMATIVE)
    ended = await last()
    assert ended.status == "done", ended.error
    trained |= {step.step: ids for step, ids in zip(last.policy.steps, ids_of(last), strict=True)}
    counts = Counter(group_id for step in range(steps) for group_id in trained[step])
    assert set(counts.values()) == {1}
    assert sum(counts.values()) == steps * 4
    ledger = Ledger(tmp_path / "ledger.sqlite", on_error=pytest.fail, resume=True)
    rows = ledger.rows()
    ledger.close()
    assert {row.group_id for row in rows if row.state == "trained"} == set(counts)
    assert [row.group_id for row in rows] == list(range(len(rows))), "no id is missing"
    assert {row.group_id for row in rows if row.state == "dropped"} >= {3, 5, 11, 17, 20, 21}
    assert {row.state for row in rows} <= {"trained", "dropped"}, "every group that was begun was trained or dropped"


def ids_of(run) -> list[list[int]]:
    return [[group_id for group_id, _ in step] for step in run.trained]


def copy_ledger(source: Path, target: Path) -> None:
    """Replace the ledger in `target` by that in `source`."""
    for path in target.glob("ledger.sqlite*"):
        path.unlink()
    for path in source.glob("ledger.sqlite*"):
        shutil.copy(path, target / path.name)


def rows_of(*runs) -> Counter[int]:
    return Counter(decode_episodes(payload)[0].dataset_index for step in runs for payload in step.payloads)


@pytest.mark.parametrize("k", [0, 1, 3])
async def test_a_ledger_of_any_earlier_moment_trains_no_row_twice_and_skips_none(
    make_run, script, tmp_path, tmp_path_factory, k
):
    """The machine crashes: the checkpoint is on disk, and the ledger is that of some step before."""
    options = {"k": k, "steps": 5, "checkpoint": {"every": 2}, "algorithm": INFORMATIVE}
    peers = {"drops": {3, 11}, "flat": {5, 20}}
    first = make_run(run_dir=tmp_path / "first", script=script(**peers), **options)
    first.run_dir.mkdir()
    snapshots = [tmp_path_factory.mktemp("none")]

    async def at_train(run, step):
        snapshots.append(tmp_path_factory.mktemp("snapshot"))
        copy_ledger(first.run_dir, snapshots[-1])
        if step == 4:
            while newest_or_none(run) != "step_00004":  # noqa: ASYNC110 - nobody signals the commit
                await asyncio.sleep(0.01)
            dying.cancel()
            await asyncio.sleep(30)

    first.script.at_train = at_train
    dying = asyncio.create_task(first())
    with pytest.raises(asyncio.CancelledError):
        await dying
    whole = make_run(run_dir=tmp_path_factory.mktemp("whole"), script=script(**peers), **options)
    assert (await whole()).status == "done"
    for number, snapshot in enumerate(snapshots):
        run_dir = tmp_path / f"resumed-{number}"
        shutil.copytree(first.run_dir, run_dir)
        copy_ledger(snapshot, run_dir)
        run = make_run(run_dir=run_dir, script=script(**peers), resume="checkpoints/step_00004", **options)
        ended = await run()
        assert (ended.status, ended.summary["groups/lost"]) == ("done", 0), ended.error
        assert rows_of(*first.policy.steps[:4], *run.policy.steps) == rows_of(*whole.policy.steps)
        dropped = [ended.summary[f"groups/{name}"] for name in ("dropped", "uninformative")]
        assert dropped == [whole.ended.summary[f"groups/{name}"] for name in ("dropped", "uninformative")]
        (run_dir / "config.json").write_text(run.config.model_dump_json(by_alias=True))
        (run_dir / "environment.json").write_text('{"folder": "/", "base_dir": "/", "script": null}')
        assert inspect_ledger(run_dir).violations == []


def newest_or_none(run) -> str | None:
    found = checkpoint.newest(run.run_dir)
    return None if found is None else found.name


async def test_finished_groups_are_reused(make_run, script):
    first = make_run(k=1, steps=4, checkpoint={"every": 1})
    await interrupt(first, after_step=2)
    leased_before = {lease.group_id for r in first.replicas.values() for m in r.leases for lease in m.leases}
    second = make_run(k=1, steps=4, checkpoint={"every": 1}, resume=newest(first))
    assert (await second()).status == "done"
    leased_again = {lease.group_id for r in second.replicas.values() for m in r.leases for lease in m.leases}
    assert set(ids_of(second)[0]) & leased_before, "step 2 has groups that the first attempt sampled"
    assert not leased_again & set(ids_of(second)[0])


async def test_a_finished_run_continues_when_it_is_resumed_with_more_steps(make_run, script):
    first = make_run(k=0, steps=2)
    await first()
    second = make_run(k=0, steps=4, resume=newest(first))
    ended = await second()
    assert ended.status == "done", ended.error
    assert [step.step for step in second.policy.steps] == [2, 3]
    assert ended.summary["steps"] == 4


async def test_evaluations_before_the_interruption_are_remembered(make_run, script):
    section = {"dataset": {"name": "held_out"}, "every": 2}
    first = make_run(k=0, steps=6, eval=section, checkpoint={"every": 2})
    await interrupt(first, after_step=3)
    second = make_run(k=0, steps=6, eval=section, checkpoint={"every": 2}, resume=newest(first))
    ended = await second()
    assert [found["step"] for found in ended.summary["evaluations"]] == [0, 2, 4, 6]


@pytest.mark.parametrize("rollouts", [True, False])
async def test_another_dataset_is_refused(make_run, script, rollouts):
    first = make_run(k=0, steps=2, rollouts=rollouts)
    await first()
    other = Fingerprints(Fingerprint(20, ["a", "b", "c", "x"]), Fingerprint(6, ["e", "f"]))
    data = dict.fromkeys(["launcher", "policy", "rollout-0", "rollout-1"], other)
    ended = await make_run(k=0, steps=4, rollouts=rollouts, resume=newest(first), script=script(data=data))()
    assert ended.status == "failed"
    assert "the dataset is not the one that the run began with (they differ in row 19 of 20)" in ended.error


async def test_torn_checkpoints_are_reported(make_run, script):
    first = make_run(k=0, steps=2)
    await first()
    torn = checkpoint.begin(first.run_dir, 9)
    second = make_run(k=0, steps=3, resume=newest(first))
    await second()
    assert any(str(torn) in line.text and "skipped" in line.text for line in second.logs)


async def test_a_resumed_run_that_is_stopped_before_it_begins_keeps_its_steps(make_run, script):
    first = make_run(checkpoint={"every": 2}, steps=4)
    assert (await first()).status == "done"

    async def at_start(run):
        while not run.statuses:  # noqa: ASYNC110 - the fake launcher has no event for it
            await asyncio.sleep(0.01)
        await run.notify(Drain("Ctrl-C"))

    peers = script(silent={"rollout-0"}, at_start=at_start)
    second = make_run(checkpoint={"every": 2}, steps=4, resume=newest(first), script=peers)
    ended = await second()
    assert (ended.status, ended.summary["steps"], second.statuses[0].step) == ("stopped", 4, 4)
