"""The best checkpoint, in SFT and RL: it is kept beside the newest, reported and exported."""

from __future__ import annotations

import asyncio

import pytest

from rlx.controller.records import checkpoint
from rlx.transport.messages import Drain

EVAL = {"dataset": {"name": "held_out"}, "every": 2}
LOSSES = {2: 0.9, 4: 0.5, 6: 0.7, 8: 0.8}
LOSS = {"best": {"metric": "eval/loss"}}


def saved(run) -> list[str]:
    return [path.name for path in checkpoint.committed(run.run_dir)]


def exported(run) -> str:
    return (run.run_dir / "export" / "model").read_text()


async def test_the_best_checkpoint_is_kept_beside_the_newest_and_exported(make_run, script):
    best = LOSS | {"every": 3, "keep": 1}
    run = make_run(rollouts=False, steps=8, eval=EVAL, checkpoint=best, script=script(losses=LOSSES))
    ended = await run()
    assert ended.status == "done", ended.error
    assert saved(run) == ["step_00004", "step_00008"]
    path = str(run.run_dir / "checkpoints" / "step_00004")
    assert ended.summary["best"] == {"step": 4, "metric": "eval/loss", "value": 0.5, "checkpoint": path}
    assert exported(run) == "4"


async def test_only_versions_that_improve_the_metric_are_saved(make_run, script):
    run = make_run(rollouts=False, steps=8, eval=EVAL, checkpoint=LOSS | {"keep": 0}, script=script(losses=LOSSES))
    await run()
    assert saved(run) == ["step_00002", "step_00004", "step_00008"]


async def test_a_final_version_that_is_the_best_is_exported(make_run, script):
    run = make_run(rollouts=False, steps=4, eval=EVAL, checkpoint=LOSS | {"keep": 1})
    ended = await run()
    assert (saved(run), exported(run), ended.summary["best"]["step"]) == (["step_00004"], "4", 4)


async def test_without_a_best_metric_the_final_version_is_exported(make_run, script):
    run = make_run(rollouts=False, steps=8, eval=EVAL, script=script(losses=LOSSES))
    ended = await run()
    assert (saved(run), exported(run), ended.summary["best"]) == (["step_00008"], "8", None)


async def test_a_resumed_run_remembers_the_best_checkpoint(make_run, script):
    options = {"rollouts": False, "steps": 8, "eval": EVAL, "checkpoint": LOSS | {"every": 1, "keep": 1}}

    async def at_train(run, step):
        if step == 6:
            await run.until_saved(6)
            dying.cancel()
            await asyncio.sleep(30)

    first = make_run(**options, script=script(losses=LOSSES, at_train=at_train))
    dying = asyncio.create_task(first())
    with pytest.raises(asyncio.CancelledError):
        await dying
    assert saved(first) == ["step_00004", "step_00006"]
    second = make_run(**options, script=script(losses=LOSSES), resume="checkpoints/step_00006")
    ended = await second()
    assert ended.status == "done", ended.error
    assert (saved(second), exported(second), ended.summary["best"]["step"]) == (["step_00004", "step_00008"], "4", 4)


@pytest.mark.parametrize("k", [0, 2])
async def test_the_first_of_equally_accurate_versions_is_the_best(make_run, script, k):
    best = {"best": {"metric": "eval/accuracy"}, "keep": 1}
    # Training takes longer than an evaluation, which so has the weights of one version.
    run = make_run(k=k, steps=7, eval=EVAL | {"samples": 2}, checkpoint=best, script=script(train_seconds=0.1))
    ended = await run()
    assert ended.status == "done", ended.error
    assert ended.summary["best"]["step"] == 2
    assert (saved(run), exported(run)) == (["step_00002", "step_00007"], "2")


async def test_an_evaluation_that_is_cancelled_leaves_no_checkpoint_behind(make_run, script):
    """Its version was saved because it might be the best. When the run stops, it is only an old checkpoint."""
    held = asyncio.Event()

    async def at_train(run, step):
        if step == 4:
            await run.notify(Drain("Ctrl-C"))
            await asyncio.sleep(0.1)

    best = {"best": {"metric": "eval/accuracy"}, "keep": 1}
    run = make_run(k=2, steps=9, eval=EVAL | {"samples": 2}, checkpoint=best, script=script(hold_eval=held))
    run.script.at_train = at_train
    ended = await run()
    assert ended.status == "stopped", ended.error
    assert saved(run) == ["step_00005"]


@pytest.mark.parametrize(("rollouts", "known"), [(False, "eval/loss"), (True, "eval/accuracy")])
async def test_an_unknown_metric_ends_the_run_before_its_first_step(make_run, rollouts, known):
    best = {"best": {"metric": "eval/mine", "prefer": "highest"}}
    run = make_run(rollouts=rollouts, eval=EVAL, checkpoint=best)
    ended = await run()
    assert ended.status == "failed"
    assert "[checkpoint.best] metric = 'eval/mine': the evaluation has no such metric. It has " in ended.error
    assert known in ended.error
    assert run.policy.steps == []


async def test_a_damaged_checkpoint_of_the_best_version_is_not_exported(make_run, script):
    async def at_train(run, step):
        if step == 6:
            await run.until_saved(4)
            (run.run_dir / "checkpoints" / "step_00004" / "policy" / "weights").write_text("5")

    run = make_run(rollouts=False, steps=8, eval=EVAL, checkpoint=LOSS, script=script(losses=LOSSES, at_train=at_train))
    ended = await run()
    assert ended.status == "failed"
    assert "the best version can't be exported, since its checkpoint " in ended.error
    assert "step_00004 is damaged: policy/weights is damaged" in ended.error
    assert "step_00008" in saved(run)
