from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from rlx.earlier.directory import ended_run
from rlx.errors import UsageError

BEST = {
    "eval": {"dataset": {"name": "arithmetic"}, "every": 2},
    "checkpoint": {"best": {"metric": "eval/accuracy"}},
}


@pytest.mark.parametrize(("step", "found"), [("newest", 12), ("12", 12), ("4", 4), ("004", 4), ("best", 4)])
def test_a_checkpoint_is_found_by_its_step(ended, step, found):
    run = ended([2, 4, 12], {0: 0.9, 2: 0.1, 4: 0.8, 12: 0.7}, **BEST)
    with ended_run(run) as opened:
        assert opened.checkpoint(step).name == f"step_{found:05d}"


def test_an_evaluation_after_the_newest_checkpoint_counts(ended):
    run = ended([2, 4], {2: 0.1}, **BEST)
    (run / "summary.json").write_text(json.dumps({"evaluations": [{"step": 4.0, "eval/accuracy": 0.2}]}))
    with ended_run(run) as opened:
        assert opened.best() == 4


@pytest.mark.parametrize(
    ("steps", "step", "message"),
    [
        ([], "newest", "has no checkpoint: the run ended before its first one"),
        ([2, 4], "3", "has no checkpoint of step 3. It has those of: 2, 4"),
        ([2], "99", "has no checkpoint of step 99. It has those of: 2"),  # its folder is a torn one
        ([2], "-1", "--step -1: write a number of steps"),
        ([2], "last", "--step last: write a number of steps"),
        ([2], "best", "does not look for a best version"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_an_error(ended, steps, step, message):
    with ended_run(ended(steps)) as opened, pytest.raises(UsageError, match=message):
        opened.checkpoint(step)


def test_a_run_without_an_evaluation_has_no_best_version(ended):
    with ended_run(ended([2], {0: 0.9}, **BEST)) as opened, pytest.raises(UsageError, match="has not evaluated"):
        opened.checkpoint("best")


@pytest.mark.parametrize("inside", [".", "checkpoints/step_00002"])
def test_only_a_run_directory_can_be_opened(ended, inside):
    run = ended([2])
    path = run.parent if inside == "." else run / inside
    hint = "`rlx run` prints the directory" if inside == "." else f"checkpoint of the run {run}: .* --step 2"
    with (
        pytest.raises(UsageError, match=f"isn't the directory of a run: it has no config.json.*{hint}"),
        ended_run(path),
    ):
        pass


def test_a_run_that_is_going_on_is_left_alone(ended):
    run = ended([2])
    with (run / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match=r"still going on \(process 1234 on host\)"), ended_run(run):
            pass
    with ended_run(run), ended_run(run):  # two exports at a time
        pass


def test_paths_are_those_of_the_folder_where_the_run_was_started(ended):
    run, before = ended([2]), Path.cwd()
    with ended_run(run):
        assert Path.cwd() == run.parent / "started"
    assert Path.cwd() == before


def test_a_copy_of_a_run_directory_on_another_machine_can_be_opened(ended):
    run = ended([2])
    (run / "lock").unlink()
    (run.parent / "started").rmdir()
    with ended_run(run) as opened:
        assert opened.config.model.path == "tiny"
