"""Whole runs of the controller with scripted peers: what it trains, reports, writes and refuses."""

from __future__ import annotations

import asyncio
import errno
import json
import re
import sqlite3
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rlx.boot import PluginRecord
from rlx.controller.records import checkpoint
from rlx.datasets.order import RowOrder, plain_order
from rlx.fingerprint import Fingerprint, Fingerprints
from rlx.plugins.catalog import discover
from rlx.plugins.resolve import resolve
from rlx.transport.messages import Doing, Drain, Failed, ProcessExited, RolloutStats

EVAL = {"dataset": {"name": "held_out"}, "every": 2, "samples": 2}


async def test_synchronous_run_is_on_policy_and_complete(make_run, script):
    run = make_run(k=0, steps=3, eval=EVAL)
    ended = await run()
    assert ended.status == "done", ended.error
    assert run.trained == [[(4 * step + index, step) for index in range(4)] for step in range(3)]
    assert all(message.barrier for replica in run.replicas.values() for message in replica.leases)
    assert [m.step for m in run.metrics if m.kind == "eval"] == [0, 2, 3]
    assert run.stopped == {"policy", "rollout-0", "rollout-1"}
    assert (run.run_dir / "export").is_dir()
    summary = ended.summary
    assert (summary["groups/trained"], summary["groups/dropped"], summary["groups/lost"]) == (12, 0, 0)
    assert summary["eval/accuracy_first"] == summary["eval/accuracy_last"] == 0.5
    assert summary["sync/logprob_diff_max"] == 0.0
    assert json.dumps(summary)


async def test_a_step_is_reported_with_its_metrics(make_run):
    run = make_run(k=0, steps=2)
    await run()
    first, second = [m.metrics for m in run.metrics if m.kind == "train"]
    assert first["loss"] == 0.5
    assert first["reward/mean"] == first["reward/exact"] == 0.5
    assert first["staleness/max"] == 0
    assert first["completion/length_mean"] == 4
    assert second["groups/trained"] == 8
    assert {"sync/seconds", "sync/logprob_diff", "time/step", "time/wait", "time/train_busy"} <= set(first)


@pytest.mark.parametrize("k", [1, 2])
async def test_an_overlapped_run_stays_within_its_staleness(make_run, script, k):
    run = make_run(k=k, steps=6, script=script(sample_seconds=0.02, train_seconds=0.01))
    ended = await run()
    assert ended.status == "done", ended.error
    assert [len(step) for step in run.trained] == [4] * 6
    assert set(run.times_trained().values()) == {1}
    ages = [step - version for step, groups in enumerate(run.trained) for _, version in groups]
    assert max(ages) <= k
    assert max(ages) > 0, "sampling never ran ahead: nothing was overlapped"
    assert not any(message.barrier for replica in run.replicas.values() for message in replica.leases)


async def test_evaluation_does_not_hold_up_training_when_staleness_is_allowed(make_run, script):
    eval_may_end = asyncio.Event()

    async def at_train(run, step):
        if step == 5:
            assert not any(m.kind == "eval" and m.step == 2 for m in run.metrics)
            eval_may_end.set()

    run = make_run(k=1, steps=6, eval=EVAL, script=script(hold_eval=eval_may_end, at_train=at_train))
    ended = await run()
    assert ended.status == "done", ended.error
    assert [m.step for m in run.metrics if m.kind == "eval"] == [0, 2, 6], "that of version 4 fell due meanwhile"


@pytest.mark.parametrize("k", [0, 2])
async def test_dropped_groups_are_replaced_and_counted(make_run, script, k):
    run = make_run(k=k, steps=3, script=script(drops={0, 5, 6}))
    ended = await run()
    assert ended.status == "done", ended.error
    assert not {0, 5, 6} & set(run.times_trained())
    assert sum(run.times_trained().values()) == 12
    assert ended.summary["groups/dropped"] == 3
    assert ended.summary["groups/lost"] == 0
    assert any("no reward today" in line.text for line in run.logs)


async def test_a_run_that_drops_everything_ends_with_a_reason(make_run, script):
    ended = await make_run(script=script(drop_all=True))()
    assert ended.status == "failed"
    assert ended.summary["groups/dropped"] == 16
    assert "no reward today" in ended.error
    assert "reward 'judge'" in ended.error


INFORMATIVE = {"group_size": 2, "drop_uninformative": True}
STRICT = """
import rlx

class Strict:
    @rlx.hookimpl
    def rlx_rollout_failed(self, error):
        return "fail"
"""


def hooks_at(folder: Path, reference: str, text: str) -> PluginRecord:
    """Write `text` into the file of `reference` (`file:attribute`), and resolve its hooks plugin."""
    (folder / reference.partition(":")[0]).write_text(text)
    return resolve("hooks", f"./{reference}", discover(), folder)


@pytest.mark.parametrize("k", [0, 2])
async def test_uninformative_groups_are_replaced_and_counted_separately_without_hooks(make_run, script, k, tmp_path):
    strict = hooks_at(tmp_path, "strict.py:Strict", STRICT)
    peers = script(flat={0, 5, 6})
    plugins = {"enable": [strict.name]}
    run = make_run(k=k, steps=3, script=peers, algorithm=INFORMATIVE, records=[strict], plugins=plugins)
    ended = await run()
    assert ended.status == "done", ended.error
    assert not {0, 5, 6} & set(run.times_trained())
    assert sum(run.times_trained().values()) == 12
    summary = ended.summary
    assert (summary["groups/uninformative"], summary["groups/dropped"], summary["groups/lost"]) == (3, 0, 0)
    steps = [m.metrics for m in run.metrics if m.kind == "train"]
    assert [step["groups/uninformative"] for step in steps][-1] == 3
    assert sum(4 / step["groups/informative"] - 4 for step in steps) == pytest.approx(3)
    with sqlite3.connect(run.run_dir / "ledger.sqlite") as ledger:
        dropped = ledger.execute("SELECT group_id, why FROM groups WHERE state = 'dropped' ORDER BY 1").fetchall()
    assert dropped == [(index, "uninformative: the total of all its completions is 0.25") for index in (0, 5, 6)]


async def test_uninformative_groups_are_trained_unless_the_config_says_drop(make_run, script):
    run = make_run(steps=2, script=script(flat={0, 5, 6}))
    ended = await run()
    assert sorted(run.times_trained()) == list(range(8))
    assert ended.summary["groups/uninformative"] == 0
    assert [m.metrics["groups/informative"] for m in run.metrics] == [0.75, 0.5]


@pytest.mark.parametrize("k", [0, 2])
async def test_bad_rows_are_replaced_counted_and_named(make_run, script, k):
    run = make_run(k=k, steps=3, eval=EVAL, script=script(bad={0, 5, 6, 7}, drops={2}, bad_eval={1, 4}))
    ended = await run()
    assert ended.status == "done", ended.error
    assert not {0, 2, 5, 6, 7} & set(run.times_trained())
    assert sum(run.times_trained().values()) == 12
    summary = ended.summary
    assert (summary["rows/dropped"], summary["rows/dropped/too_long"]) == (4, 4)
    assert (summary["groups/dropped"], summary["groups/lost"]) == (1, 0)
    assert [m.metrics for m in run.metrics if m.kind == "train"][-1]["rows/dropped"] == 4
    for evaluation in summary["evaluations"]:
        assert (evaluation["eval/rows"], evaluation["eval/dropped"], evaluation["eval/completions"]) == (4, 2, 8)
    named = {(bad["dataset"], bad["row"], bad["reason"], bad["why"]) for bad in summary["bad_rows"]}
    with sqlite3.connect(run.run_dir / "ledger.sqlite") as ledger:
        dropped = ledger.execute("SELECT row, why FROM groups WHERE state = 'dropped' AND group_id != 2").fetchall()
    assert len(dropped) == 4
    assert named == {("dataset", row, "too_long", f"row {row} is long") for row, _ in dropped} | {
        ("eval.dataset", row, "dataset", f"row {row} raised") for row in (1, 4)
    }
    assert {why for _, why in dropped} == {f"row {row} is long" for row, _ in dropped}
    lines = [line.text for line in run.logs]
    assert sum(line.startswith("row 1 of [eval.dataset] dropped (the dataset raised)") for line in lines) == 1


@pytest.mark.parametrize("k", [0, 2])
async def test_a_run_without_a_row_that_can_be_used_ends(make_run, script, k):
    ended = await make_run(k=k, script=script(bad_all=True))()
    assert ended.status == "failed"
    assert "20 rows of [dataset] in a row can't be used: perhaps none can" in ended.error
    assert "is long" in ended.error


async def test_a_bad_row_ends_the_run_if_the_config_says_fail(make_run, script):
    ended = await make_run(script=script(bad={5}, keeps_bad=True))()
    assert ended.status == "failed"
    assert "is long" in ended.error
    assert '[dataset] on_bad_row = "drop" leaves such rows out and counts them' in ended.error


async def test_sft_trains_the_next_rows_in_place_of_bad_ones_in_every_epoch(make_run, script):
    bad = {0, 5, 6, 7, 19}
    run = make_run(rollouts=False, steps=9, eval=EVAL, script=script(bad=bad, bad_eval={2}))
    ended = await run()
    assert ended.status == "done", ended.error
    order = RowOrder(plain_order(20, seed=run.config.run.seed, shuffle=True))
    usable = [row for row in order.rows(0, 60) if row not in bad]
    assert [row for step in run.policy.steps for row in step.rows] == usable[: 9 * 4]
    assert len(run.policy.refused) <= len(bad), "a row that is known to be bad is not asked for again"
    reached = order.rows(0, 60).index(usable[35], 40) + 1
    summary = ended.summary
    assert summary["rows/dropped"] == sum(row in bad for row in order.rows(0, reached)) > len(bad)
    assert {bad["row"] for bad in summary["bad_rows"] if bad["dataset"] == "dataset"} == bad
    assert [bad["row"] for bad in summary["bad_rows"] if bad["dataset"] == "eval.dataset"] == [2]
    assert [m.metrics for m in run.metrics if m.kind == "train"][-1]["epoch"] == reached / 20


async def test_an_sft_run_without_a_row_that_can_be_used_ends(make_run, script):
    ended = await make_run(rollouts=False, script=script(bad=set(range(20))))()
    assert ended.status == "failed"
    assert "20 rows of [dataset] in a row can't be used" in ended.error


async def test_a_run_that_finds_nothing_informative_ends_with_the_totals_it_saw(make_run, script):
    ended = await make_run(script=script(flat_all=True), algorithm=INFORMATIVE)()
    assert ended.status == "failed"
    assert "64 groups in a row were dropped as uninformative" in ended.error
    assert "Groups by that total: 0.25: 64" in ended.error
    summary = ended.summary
    assert (summary["groups/uninformative"], summary["groups/dropped"], summary["groups/lost"]) == (64, 0, 0)


async def test_timings_of_plugins_are_reported_by_step_and_in_total(make_run, script, hooks_record):
    plugins = {"enable": ["./hooks.py:Watch"]}
    peers = script(drops={1}, flat={2})
    run = make_run(
        k=0, steps=4, eval=EVAL, plugins=plugins, script=peers, records=[hooks_record], algorithm=INFORMATIVE
    )
    ended = await run()
    assert ended.status == "done", ended.error
    first, second = [m.metrics for m in run.metrics if m.kind == "train"]
    assert first["time/hook/w/rlx_model_built"] == 8.0
    assert "time/hook/w/rlx_model_built" not in second
    watch = "hook/./hooks.py:Watch"
    assert {f"time/{watch}/rlx_run_start", f"time/{watch}/rlx_weights_synced"} <= set(first)
    assert {f"time/{watch}/rlx_step_end", f"time/{watch}/rlx_should_stop"} <= set(second) - set(first)
    costs = ended.summary["costs"]
    seconds = [cost["seconds"] for cost in costs.values()]
    assert seconds == sorted(seconds, reverse=True)
    groups = sum(len(message.leases) for replica in run.replicas.values() for message in replica.leases)
    assert costs["reward/judge"] == {"seconds": 0.5 * groups, "calls": 2 * groups}
    in_steps = sum(step["calls/reward/judge"] for step in (first, second))
    assert in_steps == 2 * (groups - 6), "the last evaluation, of 6 rows, comes after the last step"
    assert [costs[f"{watch}/rlx_{hook}"]["calls"] for hook in ("step_end", "evaluated", "run_end")] == [2, 2, 1]


FAILING = """
import rlx

class Failing:
    @rlx.hookimpl
    def rlx_step_end(self, step):
        raise RuntimeError("no tracker today")

    @rlx.hookimpl
    def rlx_run_end(self, summary):
        raise RuntimeError("no tracker today")
"""


async def test_failures_of_best_effort_hooks_are_metrics_and_in_the_summary(make_run, script, tmp_path):
    failing = hooks_at(tmp_path, "failing.py:Failing", FAILING)
    plugins = {"enable": [failing.name], "best_effort": [failing.name]}
    sent = script(drops={1}, hook_failures={failing.name: 1, "other": 2})
    run = make_run(k=0, steps=3, plugins=plugins, script=sent, records=[failing])
    ended = await run()
    assert ended.status == "done", ended.error
    steps = [m.metrics for m in run.metrics if m.kind == "train"]
    messages = 1 + sum(len(message.leases) for replica in run.replicas.values() for message in replica.leases)
    others = [step["hooks/failed/other"] for step in steps]
    assert sum(others) == 2 * messages
    # A failure of `rlx_step_end` in the controller is reported with the metrics of the next step.
    assert [step[f"hooks/failed/{failing.name}"] - other / 2 for step, other in zip(steps, others, strict=True)] == [
        0, 1, 1,
    ]  # fmt: skip
    assert ended.summary["hooks_failed"] == {failing.name: messages + 4, "other": 2 * messages}


async def test_a_replica_that_did_not_get_the_weights_is_named(make_run, script):
    run = make_run(script=script(lags="rollout-1"))
    run.replicas["rollout-1"].version = 7
    ended = await run()
    assert ended.status == "failed"
    assert "rollout-1 does not hold the policy's weights of version 0" in ended.error
    assert "0.0001 is allowed (for an engine in float32)" in ended.error
    assert "differ from the policy's by 7 " in ended.error
    assert run.policy.steps == []


@pytest.mark.parametrize("k", [0, 1])
async def test_a_later_sync_that_fails_verification_ends_the_run(make_run, script, k):
    ended = await make_run(k=k, steps=5, script=script(lags="rollout-0", lags_from=2))()
    assert ended.status == "failed"
    assert "rollout-0 does not hold the policy's weights of version 2" in ended.error


async def test_a_reward_that_raises_ends_the_run_with_its_owner(make_run, script):
    ended = await make_run(script=script(fails={2}))()
    assert ended.status == "failed"
    assert "ValueError: boom" in ended.error
    assert "reward 'judge' (d 1, m:f)" in ended.error


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("rlx.controller.modes.trajectory_writer.write_groups", "step_00000.parquet cannot be written"),
        ("rlx.controller.records.checkpoint.write_atomic", "the checkpoint of version 1 cannot be written"),
        ("rlx.controller.groups.ledger.sqlite3.connect", "ledger.sqlite cannot be written"),
    ],
)
async def test_a_full_disk_is_reported_with_the_file_that_failed(make_run, monkeypatch, function, message):
    def raise_enospc(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    run = make_run(checkpoint={"every": 1})
    monkeypatch.setattr(function, raise_enospc)
    ended = await run()
    assert ended.status == "failed"
    assert message in ended.error
    assert "No space left on device. Is the disk full?" in ended.error
    # The trained step is saved, unless checkpoints are what can't be written.
    assert bool(checkpoint.committed(run.run_dir)) == ("trajectory_writer" in function)


async def test_a_process_that_ends_is_named_with_its_last_lines(make_run, script):
    async def at_train(run, step):
        await run.notify(ProcessExited("rollout-1", -9, ["out of memory", "killed"]))
        await asyncio.sleep(30)

    ended = await make_run(script=script(at_train=at_train))()
    assert ended.status == "failed"
    assert "rollout-1 ended with exit code -9" in ended.error
    assert "  killed" in ended.error


async def test_a_failure_that_a_peer_reports_ends_the_run(make_run, script):
    async def at_train(run, step):
        await run.clients["rollout-0"].notify(Failed("the engine is gone", "vLLM"))
        await asyncio.sleep(30)

    ended = await make_run(script=script(at_train=at_train))()
    assert ended.error.startswith("rollout-0: the engine is gone (vLLM)")


SHORTER = Fingerprints(Fingerprint(19, ["a", "b", "c", "d"]), Fingerprint(6, ["e", "f"]))
OTHER_ROW = Fingerprints(Fingerprint(20, ["a", "x", "y", "d"]), Fingerprint(6, ["e", "f"]))
OTHER_EVAL = Fingerprints(Fingerprint(20, ["a", "b", "c", "d"]), Fingerprint(6, ["e", "x"]))


@pytest.mark.parametrize(
    ("rollouts", "data", "pair", "difference"),
    [
        (True, {"rollout-1": SHORTER}, r"rollout-1 and (the launcher|rollout-0)", "the number of rows: 19 and 20"),
        (True, {"rollout-1": OTHER_ROW}, r"rollout-1 and (the launcher|rollout-0)", "row 6 of 20"),
        (True, {"rollout-0": OTHER_EVAL}, r"rollout-0 and (the launcher|rollout-1)", "row 5 of 6, for evaluation"),
        (True, {"launcher": OTHER_ROW}, r"rollout-[01] and the launcher", "row 6 of 20"),
        (False, {"launcher": SHORTER}, "policy and the launcher", "the number of rows: 20 and 19"),
        (False, {"policy": OTHER_EVAL}, "policy and the launcher", "row 5 of 6, for evaluation"),
    ],
)
async def test_processes_that_disagree_on_the_dataset_end_the_run(make_run, script, rollouts, data, pair, difference):
    run = make_run(rollouts=rollouts, script=script(data=data), eval=EVAL)
    ended = await run()
    assert ended.status == "failed"
    assert re.search(f"{pair} do not see the same dataset; they differ in {difference}", ended.error)
    assert "do not see the same dataset" in run.refused


async def test_a_process_that_is_not_ready_in_time_is_named(make_run, script):
    ended = await make_run(run={"start_seconds": 1}, script=script(silent={"rollout-1"}))()
    assert ended.status == "failed"
    assert "not ready within 0 s: rollout-1" in ended.error or "not ready within 1 s: rollout-1" in ended.error


async def test_draining_before_all_are_ready_does_not_wait(make_run, script):
    async def at_start(run):
        await run.clients["rollout-0"].notify(Doing("starts vLLM"))
        while not run.statuses or "starts vLLM" not in run.statuses[-1].processes.values():  # noqa: ASYNC110 - of statuses
            await asyncio.sleep(0.01)
        await run.notify(Drain("Ctrl-C"))

    peers = script(silent={"rollout-0"}, absent={"rollout-1"}, at_start=at_start)
    run = make_run(run={"start_seconds": 600.0}, script=peers)
    ended = await run()
    assert (ended.status, ended.summary["reason"], ended.summary["steps"]) == ("stopped", "Ctrl-C", 0)
    # An engine that starts does not answer: it is asked to stop, and not waited for.
    assert ended.untold == ["rollout-0", "rollout-1"]
    assert {"policy", "rollout-0"} <= run.stopped
    doing = {"policy": "starts", "rollout-0": "starts vLLM", "rollout-1": "starts"}
    assert doing in [status.processes for status in run.statuses]
    assert run.policy.steps == []


@pytest.mark.parametrize("k", [0, 2])
async def test_draining_finishes_the_step_and_saves(make_run, script, k):
    async def at_train(run, step):
        if step == 1:
            await run.notify(Drain("Ctrl-C"))
            await asyncio.sleep(0.1)

    run = make_run(k=k, steps=9, script=script(at_train=at_train, train_seconds=0.05))
    ended = await run()
    assert ended.status == "stopped", ended.error
    assert len(run.policy.steps) == 2
    assert [path.name for path in checkpoint.committed(run.run_dir)] == ["step_00002"]
    assert ended.summary["reason"] == "Ctrl-C"
    assert not (run.run_dir / "export").exists()


async def test_steps_zero_evaluates_and_exports(make_run):
    run = make_run(steps=0, eval=EVAL)
    ended = await run()
    assert ended.status == "done", ended.error
    assert ended.summary["eval/accuracy_first"] == 0.5
    assert (run.run_dir / "export").is_dir()
    assert run.policy.steps == []


async def test_rows_are_trained_once_per_epoch(make_run):
    run = make_run(rollouts=False, steps=5, eval=EVAL)
    ended = await run()
    assert ended.status == "done", ended.error
    assert sorted(row for step in run.policy.steps for row in step.rows) == list(range(20))
    assert [m.metrics["eval/loss"] for m in run.metrics if m.kind == "eval"] == pytest.approx([1.0, 0.8, 0.6, 0.5])


async def test_trajectories_and_ledger_record_what_was_trained(make_run):
    run = make_run(k=0, steps=2, eval=EVAL)
    await run()
    table = pq.read_table(run.run_dir / "trajectories" / "step_00001.parquet").to_pylist()
    assert [row["group_id"] for row in table] == [4, 4, 5, 5, 6, 6, 7, 7]
    assert table[0]["weight_versions"] == [1] * 4
    assert (run.run_dir / "trajectories" / "eval_00002.parquet").is_file()
    with sqlite3.connect(run.run_dir / "ledger.sqlite") as ledger:
        states = ledger.execute("SELECT state, step, count(*) FROM groups GROUP BY state, step").fetchall()
        payloads = ledger.execute("SELECT count(*) FROM payloads").fetchone()[0]
    assert states == [("trained", 0, 4), ("trained", 1, 4)]
    assert payloads == 0, "the last checkpoint covers every group"


HOOKS = """
import rlx

class Watch:
    def write(self, text):
        with self.path.open("a") as file:
            print(text, file=file)

    @rlx.hookimpl
    def rlx_run_start(self, config, run_dir):
        self.path = run_dir / "hooks.txt"
        self.write("start")

    @rlx.hookimpl
    def rlx_step_end(self, step, metrics):
        metrics["mine"] = 42.0
        self.write(f"step {step}")

    @rlx.hookimpl
    def rlx_weights_synced(self, version, metrics):
        self.write(f"synced {version}")

    @rlx.hookimpl
    def rlx_evaluated(self, step, metrics):
        self.write(f"evaluated {step}")

    @rlx.hookimpl
    def rlx_checkpoint_saved(self, path, step):
        self.write(f"saved {path.name}")

    @rlx.hookimpl
    def rlx_should_stop(self, step, metrics):
        return "good enough" if step == 1 else None

    @rlx.hookimpl
    def rlx_rollout_failed(self, error):
        return "drop" if "boom" in error else None

    @rlx.hookimpl
    def rlx_run_end(self, summary):
        summary["by"] = "hooks"
        self.write("end " + summary["status"])
"""


@pytest.fixture
def hooks_record(tmp_path):
    return hooks_at(tmp_path, "hooks.py:Watch", HOOKS)


async def test_hooks_observe_the_run_and_their_return_values_take_effect(make_run, script, hooks_record, tmp_path):
    plugins = {"enable": ["./hooks.py:Watch"]}
    run = make_run(k=0, steps=5, eval=EVAL, plugins=plugins, script=script(fails={1}), records=[hooks_record])
    ended = await run()
    assert ended.status == "done", ended.error
    assert (ended.summary["reason"], ended.summary["by"]) == ("good enough", "hooks")
    assert ended.summary["groups/dropped"] == 1
    assert [m.metrics["mine"] for m in run.metrics if m.kind == "train"] == [42.0, 42.0]
    assert (tmp_path / "hooks.txt").read_text().splitlines() == [
        "start", "synced 0", "evaluated 0", "synced 1", "step 0", "synced 2", "step 1", "evaluated 2",
        "saved step_00002", "end done",
    ]  # fmt: skip


async def test_a_stall_is_reported_with_what_the_run_waits_for(make_run, script):
    async def at_train(run, step):
        if step == 1:
            await run.clients["rollout-1"].notify(RolloutStats(1, 480.0, "reward 'judge'", 1.0, 0))
            await asyncio.sleep(5.0)

    run = make_run(k=1, steps=3, run={"stall_seconds": 1.0}, script=script(at_train=at_train))
    ended = await run()
    assert ended.status == "done", ended.error
    warnings = [line.text for line in run.logs if "nothing has moved" in line.text]
    assert warnings
    assert "policy trains step 1" in warnings[0]
    assert "oldest 480 s in reward 'judge' on rollout-1" in warnings[0]
    assert len(warnings) <= 3, "the warnings back off"


async def test_a_process_that_sends_no_heartbeat_counts_as_dead(make_run, script):
    async def at_train(run, step):
        run.clients["rollout-1"]._heartbeats.cancel()
        await asyncio.sleep(30)

    rollout = {"replicas": 2, "restarts": 0}
    ended = await make_run(run={"heartbeat_seconds": 3.0}, rollout=rollout, script=script(at_train=at_train))()
    assert ended.status == "failed"
    assert "rollout-1 has sent no heartbeat" in ended.error
    assert "rollout-1.log" in ended.error


async def test_a_group_that_is_sent_twice_counts_once(make_run, script):
    run = make_run(k=1, steps=3, script=script(sends_twice=True))
    ended = await run()
    assert ended.status == "done", ended.error
    assert set(run.times_trained().values()) == {1}
    assert any("which it does not hold" in line.text for line in run.logs)
