"""A run that is killed and resumed, and one whose engine and policy are killed, equal an uninterrupted run."""

from __future__ import annotations

import json
import signal
import sqlite3

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

REPEATS = ("loss", "grad_norm", "entropy", "mismatch/kl", "reward/mean", "completion/length_mean", "sync/logprob_diff")


@pytest.fixture(scope="module", params=["resumed", "engine and policy started again"])
def interrupted_run(request, start, resume, warm, kill, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kill")
    if request.param == "resumed":
        return _resumed(start, resume, warm, folder)
    return _killed(start, warm, kill, folder)


def _resumed(start, resume, warm, folder):
    """Kill a run after its third and last step, one step after its checkpoint, and resume it with one step more."""
    hold = folder / "hold"
    hold.touch()
    run = start("rl", warm, **{"meta.hold": hold, "meta.hold_step": 2, "run.steps": 3})
    third = run.dir / "trajectories" / "step_00002.parquet"
    run.until(lambda: third.exists() and any(call["step"] == 2 for call in run.calls("step_end")), "the third step")
    # It is written beside the third step.
    run.until(lambda: (run.dir / "checkpoints" / "step_00002").exists(), "the checkpoint")
    assert [path.name for path in run.dir.glob("checkpoints/*")] == ["step_00002"]
    run.signal(signal.SIGKILL)
    run.process.wait()
    assert not run.survivors()
    hold.unlink()
    resumed = resume(run.dir, "--set", "run.steps=4", "--set", "run.stall_seconds=200")
    resumed.wait()
    assert "checked checkpoints/step_00002: " in resumed.output
    (restored,) = resumed.calls("restore_state")
    assert restored["state"]["meta"]["hold_step"] == 2
    (line,) = (run.dir / "changes.jsonl").read_text().splitlines()
    assert json.loads(line) | {"time": 0} == {
        "time": 0,
        "step": 2,
        "changes": {"run.steps": [3, 4], "run.stall_seconds": [300.0, 200.0]},
    }
    return resumed


def _killed(start, warm, kill, folder):
    """Kill the engine of a run while completions of a step are scored, then the policy one step after a checkpoint."""
    order, hold = folder / "order", folder / "hold"
    hold.touch()
    run = start("rl", warm, **{"rollout.env.RLX_TEST_KILL": order, "meta.hold": hold, "meta.hold_step": 2})
    metrics = run.dir / "metrics.jsonl"
    run.until(lambda: metrics.exists() and '"train"' in metrics.read_text(), "the first step")
    order.touch()
    run.until(lambda: any(call["step"] == 2 for call in run.calls("step_end")), "the third step")
    kill(run.ranks()[-1:])
    run.until(lambda: "training goes back to step 2; it was at step 3" in run.output, "the restart of the policy")
    hold.unlink()
    run.wait()
    assert run.summary["policy/restarts"] == 1
    steps = [line["step"] for line in run.metrics()]
    assert steps == [0, 1, 2, 3]
    assert not order.exists()
    assert run.summary["rollout/restarts"] == 1
    assert "vLLM engine of rollout-0 died" in run.output
    assert "It is started again (1 of [rollout] restarts = 3)" in run.output
    return run


def test_the_run_continues_to_its_end(interrupted_run):
    assert interrupted_run.process.returncode == 0, interrupted_run.output
    assert interrupted_run.summary["status"] == "done"
    assert interrupted_run.summary["groups/lost"] == 0
    assert not interrupted_run.survivors()


def test_trajectories_are_the_same_bit_for_bit(interrupted_run, whole_run):
    names = sorted(path.name for path in whole_run.dir.glob("trajectories/*.parquet"))
    assert len(names) == 7
    assert names == sorted(path.name for path in interrupted_run.dir.glob("trajectories/*.parquet"))
    for name in names:
        one, other = (pq.read_table(run.dir / "trajectories" / name) for run in (whole_run, interrupted_run))
        assert one.num_rows > 0
        assert one.equals(other), f"{name}: {[column for column in one.column_names if one[column] != other[column]]}"


def test_weights_and_optimizer_are_the_same_bit_for_bit(interrupted_run, whole_run):
    files = [
        path.relative_to(whole_run.dir) for path in whole_run.dir.glob("checkpoints/step_00004/policy/*.safetensors")
    ]
    files += [path.relative_to(whole_run.dir) for path in whole_run.dir.glob("export/*.safetensors")]
    assert len(files) >= 3
    for file in files:
        one, other = (load_file(run.dir / file) for run in (whole_run, interrupted_run))
        assert one.keys() == other.keys()
        # As bytes: NaN equals itself, and 0.0 is not -0.0.
        differ = [name for name in one if one[name].numpy().tobytes() != other[name].numpy().tobytes()]
        assert not differ, f"{file}: {differ}"


def test_metrics_are_the_same(interrupted_run, whole_run):
    one, other = whole_run.metrics(), interrupted_run.metrics()
    assert [line["step"] for line in other] == [0, 1, 2, 3]
    for name in REPEATS:
        assert [line[name] for line in one] == [line[name] for line in other], name
    accuracy = [line["eval/accuracy"] for line in whole_run.metrics("eval")]
    assert [line["eval/accuracy"] for line in interrupted_run.metrics("eval")] == accuracy


def test_no_prompt_is_lost_and_none_trained_twice(interrupted_run, whole_run):
    def groups(run):
        with sqlite3.connect(run.dir / "ledger.sqlite") as ledger:
            return ledger.execute("SELECT group_id, row, state, step FROM groups ORDER BY group_id").fetchall()

    assert groups(interrupted_run) == groups(whole_run)
