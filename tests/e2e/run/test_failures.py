"""Failures in the middle of a run: exit code 1, the process that failed with its last lines, and no process left."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from rlx.earlier.export import export_run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LONG = {"run.steps": 100_000, "policy.optimizer.lr": 1e-5}


def failed_output(run):
    """Assert that a run failed and left no process, and return its output."""
    assert run.wait() == 1, run.output
    assert run.summary["status"] == "failed"
    assert not run.survivors()
    assert "Traceback" not in run.output.partition("The last lines of")[0]
    return run.output


def wait_for_first_step(run):
    """Wait until the run has made its first step."""
    path = run.dir / "metrics.jsonl"
    run.until(lambda: path.exists() and '"train"' in path.read_text(), "the first step")


@pytest.mark.parametrize(
    ("reward", "timeout", "words"),
    [("raises", 60, ["KeyError", "no such answer", "completion"]), ("hangs", 2, ["2 s", "timeout_seconds"])],
)
def test_a_failing_reward_ends_the_run(start, warm, quick_engine, reward, timeout, words):
    name = f"./parts.py:{reward}"
    rewards = f'[{{name = "{name}", timeout_seconds = {timeout}}}]'
    run = start("rl", warm, rewards=rewards, **quick_engine)
    output = failed_output(run)
    call, *_ = run.calls("rollout_failed")
    assert name in call["error"]
    assert [call["status"] for call in run.calls("run_end")] == ["failed"]
    for word in [name, "rollout-0", *words]:
        assert word in output


def test_a_killed_engine_ends_a_run_without_restarts(start, warm, kill):
    run = start("rl", warm, **{**LONG, "eval.limit": 2, "rollout.restarts": 0})
    wait_for_first_step(run)
    listening = run.addresses()
    assert any("rlx.proc policy" in words for words, _ in listening)
    assert {address for _, address in listening} == {"127.0.0.1"}, listening
    kill(run.find("EngineCore"))
    output = failed_output(run)
    assert "vLLM engine of rollout-0 died" in output
    assert str(run.dir / "logs" / "rollout-0.log") in output
    # The policy was whole: what it has trained is saved.
    steps = run.summary["steps"]
    assert run.summary["saved_step"] == steps == len(run.metrics()) > 0
    assert output.splitlines()[-1] == (f"Step {steps} is saved. Continue from there with: rlx run --resume {run.dir}")
    assert export_run(run.dir).step == steps


def test_a_dataset_that_differs_in_the_policy_ends_the_run(start, tiny_model):
    output = failed_output(start("sft", tiny_model, **{"dataset.name": "./parts.py:Elsewhere"}))
    assert "policy and the launcher do not see the same dataset; they differ in row 99 of 100" in output


def test_a_killed_rank_ends_a_run_without_restarts(start, tiny_model, kill):
    run = start("sft", tiny_model, **{**LONG, "policy.restarts": 0})
    wait_for_first_step(run)
    ranks = run.ranks()
    assert len(ranks) == 2, [process.cmdline() for process in run.below()]
    kill(ranks[1:])
    output = failed_output(run)
    assert "policy rank 1 was killed by signal 9" in output
    assert "Traceback" not in output


def test_a_killed_controller_ends_the_run(start, tiny_model, kill):
    run = start("sft", tiny_model, **LONG)
    wait_for_first_step(run)
    kill(run.find("rlx.proc controller"))
    output = failed_output(run)
    assert "controller was killed by signal 9" in output
    assert str(run.dir / "logs" / "controller.log") in output


def test_a_full_disk_ends_the_run_with_the_checkpoint_that_failed(start, tiny_model, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small disk can only be mounted by root")
    try:
        run = start("sft", tiny_model, run_dir=disk / "run", **{"checkpoint.every": 2})
        assert run.wait() == 1, run.output
        output = run.output
        assert re.search(
            r"checkpoint of version 2 cannot be written: policy rank \d: .*No space left on device", output
        ), output
        assert "bug" not in output
        assert str(disk) in output
        assert not list(run.dir.glob("checkpoints/step_00002"))
        assert not run.survivors()
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
        shutil.rmtree(disk)


def test_ctrl_c_saves_what_was_trained(start, warm, quick_engine):
    """The signal comes while the engine samples and the policy trains."""
    run = start("rl", warm, **{**LONG, **quick_engine, "async.max_staleness": 1, "checkpoint.every": 1000})
    wait_for_first_step(run)
    run.signal(signal.SIGINT)
    assert run.wait() == 0, run.output
    assert "draining" in run.output
    summary = run.summary
    assert summary["status"] == "stopped"
    assert "Ctrl-C" in summary["reason"]
    assert run.output.splitlines()[-1] == (
        f"Nothing is lost: step {summary['steps']} is saved. Continue from there with: rlx run --resume {run.dir}"
    )
    assert len(run.metrics()) == summary["steps"] > 0
    (saved,) = run.dir.glob("checkpoints/*")
    assert saved.name == f"step_{summary['steps']:05d}"
    assert (summary["groups/trained"], summary["groups/lost"]) == (6 * summary["steps"], 0)
    assert export_run(run.dir).step == summary["steps"]
    assert not run.survivors()


def test_ctrl_c_does_not_wait_for_engines_that_are_starting(start, tiny_model):
    run = start("rl", tiny_model)
    run.until(lambda: run.find("EngineCore"), "an engine that starts")
    run.signal(signal.SIGINT)
    assert run.wait(30) == 0, run.output
    assert run.summary["status"] == "stopped"
    assert not run.survivors()


def test_ctrl_c_twice_stops_at_once_even_if_a_reward_hangs(start, warm, quick_engine):
    rewards = '[{name = "./parts.py:hangs", timeout_seconds = 3600}]'
    run = start("rl", warm, rewards=rewards, **quick_engine)
    run.until(lambda: "running" in run.output, "the first group")
    run.signal(signal.SIGINT)
    run.until(lambda: "draining" in run.output, "the message that it drains")
    began = time.monotonic()
    run.signal(signal.SIGINT)
    assert run.wait() == 130, run.output
    assert time.monotonic() - began < 15
    assert run.summary["status"] == "killed"
    assert not run.survivors()


def test_a_port_in_use_is_refused(start, tiny_model):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = start("sft", tiny_model, **{"run.port": port})
        assert run.wait() == 2, run.output
    assert f"port {port}" in run.output or f"port = {port}" in run.output
    assert not run.dir.exists() or not list(run.dir.iterdir())
    assert not run.survivors()
