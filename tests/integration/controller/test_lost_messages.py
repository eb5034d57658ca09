"""Messages that are lost on their way: what a replica no longer holds is leased again, and trained once."""

from __future__ import annotations

import itertools
import random
import time

import pytest

from rlx.controller.groups import placement

EVAL = {"dataset": {"name": "held_out"}, "every": 2, "samples": 2}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(placement, "LOST_SECONDS", 0.1)


def warnings_of(run):
    return [line.text for line in run.logs if "leased again" in line.text]


LEASES = {("train", 1), ("train", 6), ("eval", 3)}
RESULTS = {("train", 2), ("train", 7), ("eval", 0)}


@pytest.mark.parametrize(
    ("k", "leases", "results"), [(k, *lost) for k in (0, 1, 2) for lost in ((LEASES, set()), (set(), RESULTS))]
)
async def test_a_lost_message_is_made_good_in_seconds(make_run, script, tmp_path, k, leases, results):
    peers = script(report_seconds=0.02, lost_leases=set(leases), lost_results=set(results))
    run = make_run(k=k, steps=4, eval=EVAL, script=peers)
    began = time.monotonic()
    ended = await run()
    assert ended.status == "done", ended.error
    assert time.monotonic() - began < 15
    assert not peers.lost_leases
    assert not peers.lost_results
    assert sum(run.times_trained().values()) == 16
    assert set(run.times_trained().values()) == {1}
    assert ended.summary["groups/lost"] == 0
    assert [m.step for m in run.metrics if m.kind == "eval"] == [0, 2, 4]
    assert {m.metrics["eval/rows"] for m in run.metrics if m.kind == "eval"} == {6.0}
    assert warnings_of(run)
    if k == 0:
        plain = make_run(k=0, steps=4, eval=EVAL, run_dir=tmp_path / "plain")
        plain.run_dir.mkdir()
        await plain()
        assert [step.payloads for step in run.policy.steps] == [step.payloads for step in plain.policy.steps]


@pytest.mark.parametrize(("k", "seed"), itertools.product((0, 2), range(3)))
async def test_any_messages_may_be_lost(make_run, script, k, seed):
    rng = random.Random(seed)
    keys = [("train", index) for index in range(24)]
    lost_leases, lost_results = set(rng.sample(keys, 6)), set(rng.sample(keys, 6))
    peers = script(report_seconds=0.02, lost_leases=lost_leases, lost_results=lost_results, sample_seconds=0.02)
    ended = await (run := make_run(k=k, steps=6, script=peers))()
    assert ended.status == "done", ended.error
    assert set(run.times_trained().values()) == {1}
    assert sum(run.times_trained().values()) == 24
    assert ended.summary["groups/lost"] == 0


@pytest.mark.parametrize("k", [0, 1])
async def test_slow_groups_are_not_taken_for_lost(make_run, script, k):
    run = make_run(k=k, steps=3, script=script(report_seconds=0.02, sample_seconds=0.15))
    ended = await run()
    assert ended.status == "done", ended.error
    assert not warnings_of(run)
    leased = sum(len(message.leases) for replica in run.replicas.values() for message in replica.leases)
    assert leased == 12


async def test_a_group_that_arrives_after_it_was_leased_again_is_taken_once(make_run, script):
    """The replica reports that it holds nothing, and sends its groups late."""
    peers = script(report_seconds=0.02, sample_seconds=0.2)
    run = make_run(k=1, steps=3, script=peers)
    for replica in run.replicas.values():
        replica.held = _Forgetful()
    ended = await run()
    assert ended.status == "done", ended.error
    assert warnings_of(run)
    assert set(run.times_trained().values()) == {1}
    assert sum(run.times_trained().values()) == 12


class _Forgetful(dict):
    def __missing__(self, key):
        return 0

    def items(self):
        return []
