"""A policy that dies in the middle of a run and is restarted from the newest checkpoint, while the replicas stay up."""

from __future__ import annotations

import asyncio

import pyarrow.parquet as pq
import pytest

EVAL = {"dataset": {"name": "held_out"}, "every": 2, "samples": 2}
SAVED = {"every": 2}


def final_steps(run):
    """Return the groups of each step that counts: the last time that it was trained."""
    steps = {}
    for policy in run.policies:
        steps.update({step.step: step.payloads for step in policy.steps})
    return [payloads for _, payloads in sorted(steps.items())]


def assert_whole(run, ended, *, restarts, steps):
    """Assert that the run is complete, and that its files hold every step and evaluation once."""
    assert ended.status == "done", ended.error
    summary = ended.summary
    assert (summary["policy/restarts"], summary["groups/lost"], summary["steps"]) == (restarts, 0, steps)
    assert [m.step for m in run.metrics if m.kind == "train"] == list(range(steps))
    files = sorted(path.stem for path in run.run_dir.glob("trajectories/step_*.parquet"))
    assert files == [f"step_{step:05d}" for step in range(steps)]
    groups = [
        group
        for name in files
        for group in pq.read_table(run.run_dir / "trajectories" / f"{name}.parquet")["group_id"].unique().to_pylist()
    ]
    assert len(groups) == len(set(groups)) == 4 * steps, "no group is lost or trained twice"
    assert [replica.attempt for replica in run.replicas.values()] == [1] * len(run.replicas), "engines stay up"


@pytest.mark.parametrize(
    "peers",
    [
        {"policy_dies": [0]},
        {"policy_dies": [2]},
        {"policy_dies": [3]},
        {"policy_dies": [3, 3, 4]},
        {"policy_raises": {3: 1}},
        {"policy_dies_at": [("SendWeights", 3)]},
        {"policy_dies_at": [("ScoreTokens", 1)]},
        {"policy_dies_at": [("SaveCheckpoint", 4)]},
        {"policy_dies": [3], "policy_starts_fail": [2]},
    ],
)
async def test_a_synchronous_run_equals_the_undisturbed_one(make_run, script, tmp_path, monkeypatch, peers):
    monkeypatch.setattr("rlx.controller.health.policy_restarts.PAUSE_SECONDS", 0.05)
    plain = make_run(k=0, steps=5, eval=EVAL, checkpoint=SAVED, run_dir=tmp_path / "plain")
    plain.run_dir.mkdir()
    await plain()
    restarts = sum(len(value) for value in peers.values())
    run = make_run(k=0, steps=5, eval=EVAL, checkpoint=SAVED, script=script(**peers))
    ended = await run()
    assert_whole(run, ended, restarts=restarts, steps=5)
    assert final_steps(run) == final_steps(plain)
    assert [m.step for m in run.metrics if m.kind == "eval"] == [m.step for m in plain.metrics if m.kind == "eval"]
    evaluated = [entry["step"] for entry in ended.summary["evaluations"]]
    assert evaluated == sorted(set(evaluated))
    assert run.policy.version == 5


@pytest.mark.parametrize("step", [0, 3, 5])
async def test_with_staleness_fresh_groups_are_used_again(make_run, script, step):
    peers = script(policy_dies=[step], sample_seconds=0.01, train_seconds=0.05)
    run = make_run(k=2, steps=8, eval=EVAL, checkpoint=SAVED, script=peers)
    ended = await run()
    assert_whole(run, ended, restarts=1, steps=8)
    for number, payloads in enumerate(final_steps(run)):
        assert len(payloads) == 4, number
    assert all(replica.drops == 1 for replica in run.replicas.values())
    (back,) = run.went_back
    assert back.step == step // 2 * 2


async def test_sft_goes_back_too(make_run, script):
    run = make_run(rollouts=False, steps=5, checkpoint=SAVED, script=script(policy_dies=[3]))
    ended = await run()
    assert ended.status == "done", ended.error
    assert [step.step for policy in run.policies for step in policy.steps] == [0, 1, 2, 2, 3, 4]
    rows = {step.step: step.rows for policy in run.policies for step in policy.steps}
    assert [step.rows for step in run.policies[0].steps] == [rows[0], rows[1], rows[2]]
    assert [m.step for m in run.metrics if m.kind == "train"] == list(range(5))


async def test_an_exception_that_repeats_at_the_same_step_ends_the_run(make_run, script):
    run = make_run(k=0, steps=5, checkpoint=SAVED, script=script(policy_raises={3: 9}))
    ended = await run()
    assert ended.status == "failed"
    assert "ZeroDivisionError: division by zero" in ended.error
    assert ended.summary["policy/restarts"] == 1


async def test_a_policy_that_dies_too_often_ends_the_run(make_run, script):
    peers = script(policy_dies=[1, 2, 3])
    run = make_run(k=0, steps=5, policy={"groups_per_step": 4, "dtype": "float32", "restarts": 2}, script=peers)
    ended = await run()
    assert ended.status == "failed"
    assert "policy rank 1 was killed by signal 9" in ended.error
    assert "The policy was started again 2 times ([policy] restarts)" in ended.error


async def test_a_replica_that_dies_while_the_policy_starts_again(make_run, script):
    async def at_train(run, step):
        if step == 3 and len(run.policies) == 1:
            await run.replicas["rollout-1"].die()

    peers = script(policy_dies=[3], at_train=at_train, slow_start=0.3)
    run = make_run(k=1, steps=6, checkpoint=SAVED, script=peers)
    ended = await run()
    assert ended.status == "done", ended.error
    assert (ended.summary["policy/restarts"], ended.summary["rollout/restarts"]) == (1, 1)
    assert [m.step for m in run.metrics if m.kind == "train"] == list(range(6))


async def test_a_policy_that_hangs_is_started_again(make_run, script):
    async def at_train(run, step):
        if step == 3 and len(run.policies) == 1:
            run.clients["policy"]._heartbeats.cancel()
            await asyncio.sleep(60)

    run = make_run(k=0, steps=4, run={"heartbeat_seconds": 4.0}, checkpoint=SAVED, script=script(at_train=at_train))
    ended = await run()
    assert_whole(run, ended, restarts=1, steps=4)
    (warning,) = [line.text for line in run.logs if "[policy] restarts = 3" in line.text]
    assert "policy has sent no heartbeat" in warning
