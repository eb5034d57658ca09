from __future__ import annotations

from pathlib import Path

import pytest

from rlx.launch.outcome import Outcome, ProcessExit
from rlx.transport.messages import RunEnded


@pytest.mark.parametrize(
    ("outcome", "code", "summary"),
    [
        (Outcome.from_controller(RunEnded("done", {"steps": 3})), 0, {"steps": 3, "status": "done"}),
        (
            Outcome.from_controller(RunEnded("failed", {"steps": 1}, "reward raised")),
            1,
            {"steps": 1, "status": "failed", "error": "reward raised"},
        ),
        (Outcome.failed("the controller is gone"), 1, {"status": "failed", "error": "the controller is gone"}),
    ],
)
def test_exit_code_and_summary(outcome, code, summary):
    assert outcome.exit_code == code
    assert outcome.as_summary() == summary


RUN_DIR = Path("/r")


def test_a_killed_run_exits_with_130():
    killed = Outcome.killed("Ctrl-C in the launcher")
    assert killed.exit_code == 130
    assert (killed.as_summary()["status"], killed.as_summary()["reason"]) == ("killed", "Ctrl-C in the launcher")


def test_the_report_of_a_successful_run_names_its_directory():
    assert Outcome.from_controller(RunEnded("done", {})).report(RUN_DIR) == "rlx run done; all of it is in /r"


def test_the_report_shows_the_dead_process_and_its_last_lines():
    process_exit = ProcessExit("rollout-1", 137, Path("/r/logs/rollout-1.log"), ["loading", "out of memory"])
    assert Outcome.failed("a replica is gone").with_exits([process_exit]).report(RUN_DIR) == (
        "rlx run failed: a replica is gone\n\n"
        "rollout-1 was killed by signal 9. The last lines of /r/logs/rollout-1.log:\n"
        "    loading\n"
        "    out of memory"
    )


def test_the_exception_that_ended_a_process_is_shown_in_place_of_its_last_lines():
    process_exit = ProcessExit("rollout-0", 1, Path("/r/logs/rollout-0.log"), ["noise"], 1, "RuntimeError: no kernel")
    assert Outcome.failed("a replica is gone").with_exits([process_exit]).report(RUN_DIR).splitlines()[2:] == [
        "rollout-0 ended with exit code 1: RuntimeError: no kernel",
        "Its log: /r/logs/rollout-0.log",
    ]
    reported = Outcome.failed("vLLM engine of rollout-0 died: RuntimeError: no kernel").with_exits([process_exit])
    assert reported.report(RUN_DIR).splitlines()[2:] == [
        "rollout-0 ended with exit code 1. Its log: /r/logs/rollout-0.log"
    ]


def test_last_lines_are_not_shown_twice():
    process_exit = ProcessExit("policy", 1, Path("/r/logs/policy.log"), ["policy rank 1 was killed by signal 9"])
    ended = Outcome.failed("policy ended:\n  policy rank 1 was killed by signal 9").with_exits([process_exit])
    assert ended.report(RUN_DIR).count("policy rank 1 was killed") == 1
    assert "policy ended with exit code 1. Its log: /r/logs/policy.log" in ended.report(RUN_DIR)


@pytest.mark.parametrize(
    ("first", "code"), [(Outcome.from_controller(RunEnded("done", {"steps": 3})), 1), (Outcome.killed("SIGTERM"), 130)]
)
def test_a_late_error_is_reported_and_keeps_the_earlier_error_and_summary(first, code):
    ended = first.with_error("summary.json cannot be written")
    assert (ended.status, ended.exit_code) == ("failed", code)
    assert first.error in ended.error
    assert "summary.json cannot be written" in ended.report(RUN_DIR)
    assert ended.summary == first.summary


STOPPED = Outcome.from_controller(RunEnded("stopped", {"steps": 4}))
FAILED = Outcome.failed("a reward raised")
REFUSED = Outcome.failed("another dataset", 2)


def make_checkpoint(run_dir, step):
    folder = run_dir / "checkpoints" / f"step_{step:05d}"
    folder.mkdir(parents=True)
    (folder / "controller.json").write_text("{}")


@pytest.mark.parametrize(
    ("outcome", "last"),
    [
        (STOPPED, "Nothing is lost: step 4 is saved. Continue from there with: rlx run --resume '{}'"),
        (FAILED, "Step 4 is saved. Continue from there with: rlx run --resume '{}'"),
        (Outcome.killed("SIGTERM"), "Step 4 is saved. Continue from there with: rlx run --resume '{}'"),
        (REFUSED, "rlx run failed: another dataset"),
        (Outcome.from_controller(RunEnded("done", {})), "rlx run done; all of it is in {}"),
    ],
)
def test_the_last_line_of_a_run_that_is_not_done_says_how_to_continue(tmp_path, outcome, last):
    run_dir = tmp_path / "my run"
    for step in (2, 4):
        make_checkpoint(run_dir, step)
    (run_dir / "checkpoints" / "step_00006.tmp").mkdir()
    assert outcome.report(run_dir).splitlines()[-1] == last.format(run_dir)


def test_without_a_checkpoint_there_is_nothing_to_continue(tmp_path):
    assert STOPPED.report(tmp_path).endswith("It was stopped before its first step, so there is nothing to resume.")
    assert FAILED.report(tmp_path) == "rlx run failed: a reward raised"
