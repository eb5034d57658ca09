"""Replicas that die in the middle of a run and are restarted."""

from __future__ import annotations

import asyncio

import pytest

from rlx.transport.messages import ProcessExited

EVAL = {"dataset": {"name": "held_out"}, "every": 2, "samples": 2}


def assert_complete(run, ended, *, restarts, steps=3, groups=4, syncs=None):
    """Assert that the run is complete, and that no group was lost or trained twice."""
    assert ended.status == "done", ended.error
    assert sum(run.times_trained().values()) == groups * steps
    assert set(run.times_trained().values()) == {1}
    summary = ended.summary
    assert (summary["groups/lost"], summary["groups/dropped"], summary["rollout/restarts"]) == (0, 0, restarts)
    assert [(message.name, message.attempt) for message in run.restart_orders] == [
        ("rollout-1", 2 + n) for n in range(restarts)
    ]
    assert run.policy.groups_opened <= 1 + 2 * (restarts if syncs is None else syncs)


def leases_of(run, *names):
    return [
        lease for name in names or run.replicas for message in run.replicas[name].leases for lease in message.leases
    ]


@pytest.mark.parametrize("reports_death", [False, True])
async def test_a_synchronous_run_trains_what_it_would_have_trained(make_run, script, tmp_path, reports_death):
    plain = make_run(k=0, eval=EVAL, run_dir=tmp_path / "plain")
    plain.run_dir.mkdir()
    await plain()
    run = make_run(k=0, eval=EVAL, script=script(dies={"rollout-1": [3]}, reports_death=reports_death))
    assert_complete(run, await run(), restarts=1)
    assert run.trained == plain.trained
    assert [step.payloads for step in run.policy.steps] == [step.payloads for step in plain.policy.steps]
    # The batch that the replica was sampling when it died is sampled again as one batch.
    leases = run.replicas["rollout-1"].leases
    assert leases[3] == leases[2]
    assert [*leases[:3], *leases[4:]] == plain.replicas["rollout-1"].leases
    (warning,) = [line.text for line in run.logs if "started again" in line.text]
    assert "rollout-1" in warning
    assert "1 of [rollout] restarts = 3" in warning


async def test_a_replica_that_dies_in_a_synchronous_evaluation_repeats_it(make_run, script):
    run = make_run(k=0, eval=EVAL, script=script(dies={"rollout-1": [1]}))
    ended = await run()
    assert_complete(run, ended, restarts=1)
    assert [m.step for m in run.metrics if m.kind == "eval"] == [0, 2, 3]
    leases = run.replicas["rollout-1"].leases
    assert leases[0] == leases[1]
    assert {lease.kind for lease in leases[0].leases} == {"eval"}


async def test_groups_that_arrived_before_a_death_are_not_counted_twice(make_run, script):
    """The second batch of a step is a single lease: the replica finished the step's other groups before it died."""
    peers = script(dies={"rollout-1": [2]}, drops={1}, sample_seconds=0.01)
    run = make_run(k=0, script=peers)
    ended = await run()
    assert ended.status == "done", ended.error
    assert set(run.times_trained().values()) == {1}
    assert sum(run.times_trained().values()) == 12
    assert not [line.text for line in run.logs if "does not hold" in line.text]


@pytest.mark.parametrize("deaths", [[2], [2, 4]])
async def test_with_staleness_other_replicas_take_over_its_groups(make_run, script, deaths):
    peers = script(dies={"rollout-1": deaths}, sample_seconds=0.02, train_seconds=0.15)
    run = make_run(k=1, steps=8, eval=EVAL, script=peers)
    ended = await run()
    assert_complete(run, ended, restarts=len(deaths), steps=8)
    ages = [step - version for step, groups in enumerate(run.trained) for _, version in groups]
    assert max(ages) <= 1
    died = run.replicas["rollout-1"].leases[deaths[0] - 1]
    taken = [lease.group_id for lease in leases_of(run, "rollout-0")]
    assert {lease.group_id for lease in died.leases if lease.kind == "train"} <= set(taken)
    assert len(run.replicas["rollout-1"].leases) > deaths[-1], "the restarted replica gets leases again"


async def test_the_only_replica_is_started_again(make_run, script):
    run = make_run(k=1, replicas=1, steps=4, script=script(dies={"rollout-0": [2]}, train_seconds=0.15))
    ended = await run()
    assert ended.status == "done", ended.error
    assert sum(run.times_trained().values()) == 16
    assert ended.summary["rollout/restarts"] == 1


async def test_a_replica_that_dies_too_often_ends_the_run(make_run, script):
    run = make_run(k=0, rollout={"replicas": 2, "restarts": 2}, script=script(dies={"rollout-1": [1, 2, 3]}))
    ended = await run()
    assert ended.status == "failed"
    assert "rollout-1 ended with exit code 137" in ended.error
    assert "out of memory" in ended.error
    assert "started again 2 times ([rollout] restarts)" in ended.error
    assert ended.summary["rollout/restarts"] == 2


@pytest.mark.parametrize(
    ("k", "version", "breaks"),
    [(0, 0, "all"), (0, 2, ""), (0, 2, "others"), (0, 3, "all"), (1, 0, "others"), (1, 2, ""), (1, 2, "all"),
     (1, 3, "others")],
)  # fmt: skip
async def test_a_replica_that_dies_while_weights_move_is_survived(make_run, script, k, version, breaks):
    """It makes no difference whether the others got the weights, only the policy sent them, or the transfer broke."""
    peers = script(dies_at_weights={"rollout-1": [version]}, breaks=breaks, sample_seconds=0.01, train_seconds=0.02)
    run = make_run(k=k, replicas=3, eval=EVAL, script=peers)
    ended = await run()
    assert ended.status == "done", ended.error
    assert set(run.times_trained().values()) == {1}
    assert sum(run.times_trained().values()) == 12
    summary = ended.summary
    assert (summary["groups/lost"], summary["groups/dropped"], summary["rollout/restarts"]) == (0, 0, 1)
    repeated = [line.text for line in run.logs if "is repeated with those that are left" in line.text]
    assert len(repeated) == bool(breaks)
    # Every version that was sampled with had been sent completely: `Replica.version` follows it only then.
    assert {version for step in run.trained for _, version in step} <= {0, 1, 2}


async def test_two_replicas_that_die_one_after_another_while_weights_move(make_run, script):
    peers = script(dies_at_weights={"rollout-1": [2], "rollout-0": [2]}, breaks="all")
    run = make_run(k=0, replicas=3, script=peers)
    ended = await run()
    assert ended.status == "done", ended.error
    assert ended.summary["rollout/restarts"] == 2
    assert set(run.times_trained().values()) == {1}


async def test_all_replicas_that_die_while_weights_move(make_run, script):
    peers = script(dies_at_weights={"rollout-1": [2], "rollout-0": [2]})
    run = make_run(k=1, script=peers)
    ended = await run()
    assert ended.status == "done", ended.error
    assert ended.summary["rollout/restarts"] == 2


async def test_a_transfer_that_breaks_without_a_death_ends_the_run(make_run, script, monkeypatch):
    monkeypatch.setattr("rlx.controller.health.restarts.DEATH_REPORT_SECONDS", 0.1)
    run = make_run(k=1, script=script(breaks="all"))
    run.broke[1].set()
    ended = await run()
    assert ended.status == "failed"
    assert "rollout-0: receiving weights failed: weight transfer broke at bucket 3" in ended.error
    assert not run.restart_orders


async def test_training_goes_on_while_a_replica_starts_again(make_run, script):
    peers = script(dies={"rollout-1": [3]}, slow_start=0.8, sample_seconds=0.01, train_seconds=0.02)
    run = make_run(k=1, steps=45, script=peers)
    steps_while_away = []

    async def at_train(run, step):
        if run.restart_orders and not run.restarting[-1].done():
            steps_while_away.append(step)

    run.script.at_train = at_train
    ended = await run()
    assert ended.status == "done", ended.error
    assert len(steps_while_away) > 10
    assert set(run.times_trained().values()) == {1}
    assert len(run.replicas["rollout-1"].leases) > 3, "the restarted replica gets leases again"
    assert run.policy.groups_opened == 3, "one at the start, one without the replica, one with it again"


async def test_a_replica_that_does_not_come_back_is_named(make_run, script):
    peers = script(dies={"rollout-1": [1]}, never_returns=True)
    run = make_run(k=0, run={"start_seconds": 2}, rollout={"replicas": 2, "restarts": 1}, script=peers)
    ended = await run()
    assert ended.status == "failed"
    assert "rollout-1 was started again and is not ready within 2 s (run.start_seconds)" in ended.error


@pytest.mark.parametrize("how", ["report", "exit", "silence"])
async def test_a_restarted_replica_whose_start_fails_is_started_once_more(make_run, script, monkeypatch, how):
    monkeypatch.setattr("rlx.controller.health.restarts.PAUSE_SECONDS", 0.1)
    peers = script(dies={"rollout-1": [2]}, starts_fail={"rollout-1": [2, 3]}, start_fails_by=how)
    run = make_run(k=0, run={"start_seconds": 1}, script=peers)
    ended = await run()
    assert ended.status == "done", ended.error
    assert [order.attempt for order in run.restart_orders] == [2, 3, 4]
    assert [order.pause_seconds for order in run.restart_orders] == [0, 0.1, 0.2]
    assert set(run.times_trained().values()) == {1}


async def test_starts_that_keep_failing_end_the_run_with_their_reason(make_run, script, monkeypatch):
    monkeypatch.setattr("rlx.controller.health.restarts.PAUSE_SECONDS", 0.01)
    peers = script(dies={"rollout-1": [2]}, starts_fail={"rollout-1": [2, 3, 4]})
    ended = await (run := make_run(k=0, script=peers))()
    assert ended.status == "failed"
    assert "vLLM engine did not start: Free memory is less" in ended.error
    assert "started again 3 times ([rollout] restarts)" in ended.error
    assert len(run.restart_orders) == 3


async def test_a_replica_that_sends_no_heartbeat_is_started_again(make_run, script):
    async def at_train(run, step):
        if step == 1 and not run.restart_orders:
            run.clients["rollout-1"]._heartbeats.cancel()
            while not run.restart_orders:  # noqa: ASYNC110 - the test has no event for it
                await asyncio.sleep(0.01)

    run = make_run(k=0, run={"heartbeat_seconds": 4.0}, script=script(at_train=at_train))
    assert_complete(run, await run(), restarts=1)
    (warning,) = [line.text for line in run.logs if "started again" in line.text]
    assert "rollout-1 has sent no heartbeat" in warning


async def test_a_replica_may_die_again_before_it_gets_weights(make_run, script):
    """It dies twice while the policy trains a long step; weights are sent only after that step."""

    async def at_train(run, step):
        if step == 2:
            # A lease of version 2 means that this version is verified: no weights are on their way.
            while not any(lease.version == 2 for lease in leases_of(run)):  # noqa: ASYNC110 - no event for it
                await asyncio.sleep(0.01)
            for attempt in (1, 2):
                await run.notify(ProcessExited("rollout-1", 137, ["out of memory"], attempt))
                while len(run.restart_orders) < attempt or not run.restarting[-1].done():  # noqa: ASYNC110 - no event for it
                    await asyncio.sleep(0.01)

    run = make_run(k=1, steps=6, script=script(at_train=at_train))
    assert_complete(run, await run(), restarts=2, steps=6, syncs=1)
