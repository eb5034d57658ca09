"""A run that fails while its policy is whole saves what was trained, and goes on from there as if nothing had been."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib

import pytest

from rlx.boot import PluginRecord
from rlx.errors import RunError
from rlx.transport.messages import Failed, ProcessExited

STEPS = 5
EVAL = {"dataset": {"name": "held_out"}, "every": 2, "samples": 2}
FAILING_HOOK = """
import rlx

class Fails:
    @rlx.hookimpl
    def {hook}(self, {argument}):
        if {argument} == {value}:
            raise RuntimeError("no tracker today")
"""


@pytest.fixture(autouse=True)
def no_wait_for_reports(monkeypatch):
    monkeypatch.setattr("rlx.controller.controller.EXIT_REPORT_SECONDS", 0.1)


def saved(run):
    return sorted(path.name for path in (run.run_dir / "checkpoints").glob("*"))


def failing_hook(folder, hook, argument, value):
    path = folder / "fails.py"
    path.write_text(FAILING_HOOK.format(hook=hook, argument=argument, value=value))
    target = f"{path}:Fails"
    record = PluginRecord("hooks", target, "", "", target, hashlib.sha256(path.read_bytes()).hexdigest())
    return {"plugins": {"enable": [target]}, "records": [record]}


async def logger_fails(run, step):
    """The launcher reports that a logger raised, while the policy trains step 2; the step takes another moment."""
    if step == 2:
        await run.notify(Failed("disk full", owner="logger 'wandb'"))
        await asyncio.sleep(0.3)


async def engine_dies(run, step):
    if step == 2:
        await run.notify(ProcessExited("rollout-1", 137, ["out of memory"], 1))
        await asyncio.sleep(0.3)


def a_reward(_folder, script, _patch):
    return {"script": script(fails={9})}, 2


def a_hook_after_a_step(folder, script, _patch):
    return {"script": script(), **failing_hook(folder, "rlx_step_end", "step", 2)}, 3


def a_hook_after_a_sync(folder, script, _patch):
    return {"script": script(), **failing_hook(folder, "rlx_weights_synced", "version", 2)}, 2


def a_hook_after_an_evaluation(folder, script, _patch):
    return {"script": script(), **failing_hook(folder, "rlx_evaluated", "step", 2)}, 2


def an_engine_out_of_restarts(_folder, script, _patch):
    return {"script": script(at_train=engine_dies), "rollout": {"replicas": 2, "restarts": 0}}, 3


def a_lost_update(_folder, script, _patch):
    return {"script": script(lags="rollout-1", lags_from=2)}, 2


def a_logger_while_the_policy_trains(_folder, script, _patch):
    return {"script": script(at_train=logger_fails)}, 3


def nothing_that_moves(_folder, script, patch):
    patch.setattr("rlx.controller.health.watchdog.PATIENCE", 1)
    return {"script": script(loses={9}), "run": {"stall_seconds": 1.0}}, 2


def a_full_disk_of_trajectories(_folder, script, patch):
    def write_groups(path, *_args, **_kwargs):
        if path.name == "step_00001.parquet":
            raise OSError(28, "No space left on device")

    patch.setattr("rlx.controller.modes.trajectory_writer.write_groups", write_groups)
    return {"script": script()}, None


FAILURES = [
    a_reward,
    a_hook_after_a_step,
    a_hook_after_a_sync,
    a_hook_after_an_evaluation,
    an_engine_out_of_restarts,
    a_lost_update,
    a_logger_while_the_policy_trains,
    nothing_that_moves,
    a_full_disk_of_trajectories,
]
WITH_STALENESS = [a_reward, an_engine_out_of_restarts, a_lost_update, a_full_disk_of_trajectories]


@pytest.mark.parametrize(
    ("failure", "k"), [*((failure, 0) for failure in FAILURES), *((failure, 1) for failure in WITH_STALENESS)]
)
async def test_a_run_that_fails_saves_and_goes_on(make_run, script, tmp_path, monkeypatch, failure, k):
    with monkeypatch.context() as patch:
        options, step = failure(tmp_path, script, patch)
        run = make_run(k=k, steps=STEPS, eval=EVAL, checkpoint={"every": 100}, **options)
        ended = await run()
    assert ended.status == "failed"
    assert "After that" not in ended.error
    steps = ended.summary["steps"]
    if k == 0 and step is not None:
        assert steps == step
    assert steps > 0
    assert saved(run) == [f"step_{steps:05d}"]
    assert ended.summary["groups/lost"] == 0
    assert [m.step for m in run.metrics if m.kind == "train"] == list(range(steps))
    assert any(f"step {steps} is saved before it ends" in line.text for line in run.logs)

    resumed = make_run(k=k, steps=STEPS, eval=EVAL, checkpoint={"every": 100}, resume=f"checkpoints/{saved(run)[0]}")
    ended = await resumed()
    assert ended.status == "done", ended.error
    assert ended.summary["groups/lost"] == 0
    trained = run.times_trained() + resumed.times_trained()
    assert set(trained.values()) == {1}
    assert len(trained) == 4 * STEPS
    if k == 0:
        plain = make_run(k=0, steps=STEPS, eval=EVAL, run_dir=tmp_path / "plain")
        plain.run_dir.mkdir()
        await plain()
        payloads = [step.payloads for step in run.policy.steps + resumed.policy.steps]
        assert payloads == [step.payloads for step in plain.policy.steps]
        assert train_leases(resumed) == train_leases(plain)[-len(train_leases(resumed)) :]


def train_leases(run):
    """What decides the samples of a synchronous run: the batches, in order, with their seeds."""
    batches = run.replicas["rollout-0"].leases
    return [(batch.seed, batch.leases) for batch in batches if batch.leases[0].kind == "train"]


async def policy_raises(_run, step):
    if step == 2:
        raise RunError("the gradient is not finite")


async def policy_dies(run, step):
    if step == 2:
        await run.notify(ProcessExited("policy", 137, ["out of memory"], 1))
        await asyncio.sleep(30)


async def policy_reports(run, step):
    if step == 2:
        await run.clients["policy"].notify(Failed("NCCL error", owner="policy"))
        await asyncio.sleep(30)


@pytest.mark.parametrize("at_train", [policy_raises, policy_dies, policy_reports])
@pytest.mark.parametrize("k", [0, 1])
async def test_a_failure_of_the_policy_saves_nothing(make_run, script, at_train, k):
    policy = {"groups_per_step": 4, "dtype": "float32", "restarts": 0}
    run = make_run(k=k, steps=STEPS, policy=policy, checkpoint={"every": 100}, script=script(at_train=at_train))
    ended = await run()
    assert ended.status == "failed"
    assert saved(run) == []
    assert "After that" not in ended.error


async def fails_then_dies(run, step):
    """The policy dies of the step that it was training when a logger failed."""
    if step == 2:
        await run.notify(Failed("disk full", owner="logger 'wandb'"))
        await asyncio.sleep(0.4)
        await run.notify(ProcessExited("policy", 137, [], 1))
        await asyncio.sleep(30)


async def test_a_policy_that_dies_while_it_is_waited_for_is_not_waited_for_any_longer(make_run, script):
    run = make_run(steps=STEPS, script=script(at_train=fails_then_dies))
    ended = await run()
    assert ended.error == (
        "launcher: disk full (logger 'wandb')\nAfter that, step 2 was not saved: the policy has failed, too."
    )
    assert saved(run) == []


async def test_if_saving_fails_too_the_first_failure_stays_the_message(make_run, script, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rlx.controller.records.checkpoint.write_atomic", full)
    run = make_run(script=script(fails={9}), checkpoint={"every": 100})
    ended = await run()
    assert "ValueError: boom" in ended.error.partition("\n")[0]
    assert "After that: the checkpoint of version 2 cannot be written: [Errno 28] No space left" in ended.error


async def test_a_version_that_is_saved_already_is_not_saved_again(make_run, script):
    run = make_run(script=script(fails={9}), checkpoint={"every": 1, "keep": 0})
    ended = await run()
    assert ended.status == "failed"
    assert saved(run) == ["step_00001", "step_00002"]
    assert not [line.text for line in run.logs if "before it ends" in line.text]


async def test_a_failure_while_a_checkpoint_is_being_written_waits_for_it(make_run, script):
    run = make_run(k=1, steps=STEPS, script=script(), checkpoint={"every": 2})
    answer = run.policy.answer

    async def slow(message):
        if type(message).__name__ == "SaveCheckpoint":
            await run.notify(Failed("disk full", owner="logger 'wandb'"))
            await asyncio.sleep(0.5)
        return await answer(message)

    run.policy.answer = slow
    ended = await run()
    assert "disk full" in ended.error
    assert "After that" not in ended.error
    assert saved(run) == ["step_00002"]


async def test_sft_saves_too(make_run, script):
    run = make_run(rollouts=False, algorithm={"name": "sft"}, script=script(at_train=logger_fails), steps=STEPS)
    ended = await run()
    assert ended.status == "failed"
    assert saved(run) == ["step_00003"]
    assert [m.step for m in run.metrics if m.kind == "train"] == [0, 1, 2]


async def test_a_run_that_fails_before_its_first_step_has_nothing_to_save(make_run, script):
    run = make_run(script=script(fails={0}))
    with contextlib.suppress(RunError):
        await run()
    assert saved(run) == []
