"""`rlx.launch.run` with processes that stand in for controller, policy and replicas."""

from __future__ import annotations

import os
import signal
import time

import msgspec
import pytest

from rlx.controller.records.checkpoint import SavedState
from rlx.fingerprint import Fingerprint
from rlx.launch.supervisor import STOP_SECONDS, VERDICT_SECONDS


def test_a_run_that_ends_by_itself(run, living):
    code, output = run.start().end()
    assert (code, output) == (0, f"rlx run done; all of it is in {run.dir}\n")
    assert living() == []
    assert run.summary() == {"steps": 2, "status": "done", "saved_step": None}
    recorded = run.recorded()
    assert recorded[0] == "status starting"
    assert [line for line in recorded if line != "status starting"] == [
        "status running",
        "log 0 {'loss': 1.5} train",
        "close done",
    ]
    assert {path.name for path in (run.dir / "logs").iterdir()} == {
        "controller.log",
        "policy.log",
        "rollout-0.log",
        "rollout-1.log",
    }
    assert {"config.json", "plugins.json", "environment.json", "keys.json"} <= {path.name for path in run.dir.iterdir()}


def test_without_rollouts_there_are_two_processes(run):
    assert run.start(rollouts=False).end()[0] == 0
    assert {path.name for path in (run.dir / "logs").iterdir()} == {"controller.log", "policy.log"}


def test_a_process_that_exits_fails_the_run_and_its_last_lines_are_shown(run, living):
    code, output = run.start(controller="waits", policy="exits").end()
    assert code == 1
    assert living() == []
    assert "rlx run failed: policy is gone: 3, 10 lines" in output
    assert "policy ended with exit code 3. The last lines of" in output
    assert "    line 20\n" in output
    assert "    line 29\n" in output
    assert "    line 19\n" not in output
    assert run.summary() == {"status": "failed", "error": "policy is gone: 3, 10 lines", "saved_step": None}
    assert run.recorded()[-1] == "close failed"


def test_a_killed_process_fails_the_run_and_the_signal_is_named(run, living):
    run.start(controller="waits").running()
    [policy] = [process for process in living() if process.cmdline()[-1] == "stand_ins:client"][:1]
    policy.kill()
    code, output = run.end()
    assert code == 1
    assert "was killed by signal 9. The last lines of" in output


def test_a_failed_run_ends_with_the_controllers_error_only(run):
    """The controller exits with code 1, too, which isn't a second failure to report."""
    code, output = run.start(controller="fails").end()
    assert code == 1
    assert output == "rlx run failed: reward 'judge' raised ValueError\n"


def test_a_process_that_fails_while_it_stops_is_reported(run):
    code, output = run.start(policy="fails while it stops").end()
    assert code == 0
    assert "policy ended with exit code 4. The last lines of" in output


def test_a_controller_that_exits_early_fails_the_run(run):
    code, output = run.start(controller="exits early").end()
    assert code == 1
    assert "rlx run failed: controller ended with exit code 0 before the run was over" in output
    assert run.summary()["status"] == "failed"


@pytest.mark.parametrize("code", [1, 2])
def test_the_exit_code_of_a_controller_that_cannot_start_is_that_of_the_run(run, code):
    seen, output = run.start(controller="fails to start", code=code).end()
    assert seen == code
    assert "cannot bind" in output


def test_a_controller_that_never_listens_is_a_timeout(run):
    code, output = run.start(controller="no port", start_seconds=3.0).end()
    assert code == 1
    assert "the controller did not listen within 3 s (run.start_seconds); see" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_drains(run, number, living):
    run.start(controller="waits").running().signal(number)
    code, output = run.end()
    assert code == 0
    assert "draining: finishing the step and saving; Ctrl-C again stops now" in output
    assert "in the launcher" in run.summary()["reason"]
    assert living() == []


def test_sigusr1_asks_for_a_checkpoint_and_ends_no_process(run, living):
    """Batch systems send it to every process of a job."""
    run.start(controller="never ends").running()
    processes = [process for process in living() if process.pid != run.process.pid]
    for process in processes:
        if "rlx.proc" in process.cmdline():
            os.kill(process.pid, signal.SIGUSR1)
    time.sleep(0.3)
    assert {process.pid for process in processes} <= {process.pid for process in living()}
    run.signal(signal.SIGUSR1)
    code, _ = run.end()
    assert code == 0
    assert run.summary()["reason"] == "SIGUSR1 in the launcher"
    assert living() == []


def test_the_second_signal_stops_now(run, living, until):
    run.start(controller="never ends", **{"rollout-0": "has child processes"}).running()
    until(lambda: (run.dir / "rollout-0.ready").exists())
    run.signal(signal.SIGINT)
    assert run.process.stdout.readline().startswith("draining")
    run.signal(signal.SIGINT)
    assert run.end(timeout=VERDICT_SECONDS / 2)[0] == 130
    assert living() == []
    assert run.summary()["status"] == "killed"


def test_ctrl_c_before_the_controller_listens_stops_now(run, living, until):
    run.start(controller="no port")
    until(lambda: any(process.cmdline()[-1] == "stand_ins:controller" for process in living()))
    run.signal(signal.SIGINT)
    assert run.end(timeout=15)[0] == 130
    assert living() == []


def test_a_killed_launcher_leaves_no_process(run, living, until):
    run.start(controller="waits", **{"rollout-0": "has child processes"}).running()
    until(lambda: (run.dir / "rollout-0.ready").exists())
    assert len(living()) >= 10
    run.signal(signal.SIGKILL)
    until(lambda: living() == [], 5)


def test_a_process_that_ignores_stop_is_killed(run, living):
    code, output = run.start(policy="ignores stop").end()
    assert code == 0
    assert f"policy did not stop within 20 s and is killed. Its log: {run.dir / 'logs' / 'policy.log'}\n" in output
    assert living() == []


def test_a_process_that_could_not_be_asked_to_stop_is_not_waited_for(run, living):
    code, output = run.start(controller="cannot reach the policy", policy="ignores stop").end(timeout=STOP_SECONDS / 2)
    assert code == 0
    assert output.startswith(f"rlx run stopped; all of it is in {run.dir}\n")
    assert living() == []


def test_a_logger_that_raises_ends_the_run_with_its_name(run):
    code, output = run.start(controller="waits", failing_logger_method="log").end()
    assert code == 1
    assert "launcher says: logger 'recorder': log raised OSError: disk full" in output


def test_a_logger_that_raises_at_the_end_is_reported(run):
    code, output = run.start(failing_logger_method="close").end()
    assert code == 1
    assert "logger 'recorder': close raised OSError: disk full" in output
    assert run.summary()["status"] == "done"


def test_a_second_run_takes_the_next_name_and_refuses_the_directory_of_another_run(run, tmp_path):
    assert run.start().end()[0] == 0
    assert run.start().end()[0] == 0
    assert (tmp_path / "runs" / "job-2" / "summary.json").exists()
    code, output = run.start(run_dir=str(run.dir)).end()
    assert code != 0
    assert "is the directory of another run" in output


def test_a_resumed_run_continues_in_its_directory_from_the_newest_checkpoint(run, tmp_path):
    assert run.start().end()[0] == 0
    old_keys = (run.dir / "keys.json").read_text()
    code, output = run.start(resume=str(run.dir)).end()
    assert code != 0
    assert "has no checkpoint to resume from" in output
    for name in ("step_00002", "step_00004.tmp"):
        (run.dir / "checkpoints" / name).mkdir(parents=True)
        saved = msgspec.json.encode(SavedState(2, 0, 1, Fingerprint(1, ["f"]), 0, 0.0))
        (run.dir / "checkpoints" / name / "controller.json").write_bytes(saved)
    code, output = run.start(resume=str(run.dir)).end()
    assert code == 0
    assert "step_00004.tmp is torn" in output
    assert "continues from checkpoints/step_00002: step 2 of 100\n" in output
    log = (run.dir / "logs" / "controller.log").read_text().splitlines()
    assert log == ["resume from None", f"resume from {run.dir}/checkpoints/step_00002"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["job"]
    assert (run.dir / "keys.json").read_text() != old_keys


@pytest.mark.parametrize("how", ["resume", "auto"])
def test_a_run_that_was_killed_before_its_first_checkpoint_starts_over(run, how):
    again = {"resume": str(run.dir)} if how == "resume" else {"auto": True}
    for attempt in (1, 2):
        run.start(controller="never ends", **(again if attempt == 2 else {})).running()
        (run.dir / "of_this_attempt").write_text(str(attempt))
        run.process.kill()
        run.end()
        (run.dir / "running").unlink()
    code, output = run.start(**again).end()
    assert code == 0
    assert f"the run starts over from step 0. Files of the earlier attempt: {run.dir}/attempt-2\n" in output
    assert (run.dir / "logs" / "controller.log").read_text() == "resume from None\n"
    for attempt in (1, 2):
        assert (run.dir / f"attempt-{attempt}" / "of_this_attempt").read_text() == str(attempt)
        assert (run.dir / f"attempt-{attempt}" / "logs" / "controller.log").exists()
    assert run.summary()["status"] == "done"


def test_the_same_command_starts_a_run_continues_it_and_is_content_with_its_end(run, tmp_path):
    run.start(auto=True, steps=2, controller="never ends").running()
    folder = run.dir / "checkpoints" / "step_00001"
    folder.mkdir(parents=True)
    saved = msgspec.json.encode(SavedState(1, 0, 1, Fingerprint(1, ["f"]), 0, 0.0))
    (folder / "controller.json").write_bytes(saved)
    run.process.kill()
    run.end()
    code, output = run.start(auto=True, steps=2).end()
    assert code == 0
    assert "continues from checkpoints/step_00001: step 1 of 2\n" in output
    assert "controller.log" in {path.name for path in (run.dir / "logs").iterdir()}
    before = (run.dir / "logs" / "controller.log").read_text()
    code, output = run.start(auto=True, steps=2).end()
    assert (code, output) == (0, f"{run.dir} is done: 2 steps. There is nothing to resume.\n")
    assert (run.dir / "logs" / "controller.log").read_text() == before
    assert run.start(auto=True, steps=3).end()[0] == 0  # more steps: it goes on
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["job"]


@pytest.mark.parametrize("second", [{"auto": True}, {"resume": "runs/job"}])
def test_a_second_launcher_in_a_run_directory_is_refused(run, second, living):
    run.start(auto=True, controller="waits").running()
    first, before = run.process, len(living())
    code, output = run.start(**second).end()
    run.process, started = first, len(living())
    assert code != 0
    assert f"{run.dir} is in use by another `rlx run` (process {first.pid} on " in output
    assert started == before
    run.signal(signal.SIGINT)
    assert run.end()[0] == 0


def test_a_second_ctrl_c_ends_a_run_with_a_stopped_process(run, living):
    """SIGSTOP the policy, then Ctrl-C twice."""
    run.start(controller="never ends").running()
    [policy] = [process for process in living() if process.cmdline()[-1] == "stand_ins:client"][:1]
    os.kill(policy.pid, signal.SIGSTOP)
    run.signal(signal.SIGINT)
    assert run.process.stdout.readline().startswith("draining")
    run.signal(signal.SIGINT)
    assert run.end(timeout=15)[0] == 130
    assert living() == []


@pytest.mark.parametrize("how", ["exits once", "has child processes", "is stopped"])
def test_a_replica_is_started_again(run, living, how):
    code, output = run.start(controller="restarts", **{"rollout-1": how}).end()
    assert (code, output) == (0, f"rlx run done; all of it is in {run.dir}\n")
    assert living() == []
