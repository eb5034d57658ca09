from __future__ import annotations

import fcntl
import os

import msgspec
import pytest

from rlx.controller.records.checkpoint import SavedState
from rlx.errors import UsageError
from rlx.fingerprint import Fingerprint
from rlx.launch.run_dir import (
    continue_run_dir,
    make_run_dir,
    newest_checkpoint,
    reopen_run_dir,
    rewind,
    start_over,
    steps_done,
    take_run_dir,
)


@pytest.fixture
def open_dirs():
    """Run directories to close after the test."""
    directories = []
    yield directories
    for directory in directories:
        directory.close()


def make_run(path):
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    return path


def test_repeated_run_names_get_a_number(tmp_path, open_dirs):
    for expected in ("job", "job-2", "job-3"):
        open_dirs.append(make_run_dir(tmp_path / "runs", "job"))
        assert open_dirs[-1].path == tmp_path / "runs" / expected


def test_the_directory_of_another_run_is_refused_with_both_remedies(tmp_path):
    path = make_run(tmp_path / "job")
    with pytest.raises(UsageError, match=f"is the directory of another run.*--run-dir.*rlx run --resume {path}"):
        take_run_dir(path)


def test_a_nonempty_directory_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="isn't an empty directory"):
        take_run_dir(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("exists", [True, False])
def test_an_empty_or_new_directory_is_accepted(tmp_path, open_dirs, exists):
    path = tmp_path / "a" / "b"
    if exists:
        path.mkdir(parents=True)
    open_dirs.append(take_run_dir(path))
    assert open_dirs[0].path == path


def test_only_a_run_can_be_resumed(tmp_path):
    with pytest.raises(UsageError, match="isn't a run directory"):
        reopen_run_dir(tmp_path)


def test_two_launchers_cannot_share_a_directory(tmp_path, open_dirs):
    open_dirs.append(make_run_dir(tmp_path, "job"))
    open_dirs[0].write_json("config.json", {})
    with pytest.raises(UsageError, match=rf"is in use by another `rlx run` \(process {os.getpid()} on \S+, since "):
        reopen_run_dir(open_dirs[0].path)


def test_reopening_a_closed_directory_removes_the_old_port_file(tmp_path, open_dirs):
    first = make_run_dir(tmp_path, "job")
    first.write_json("config.json", {})
    (first.path / "controller.port").write_text("4711")
    first.close()
    open_dirs.append(reopen_run_dir(first.path))
    assert not (first.path / "controller.port").exists()


def test_the_lock_is_not_inherited_by_children(tmp_path, open_dirs):
    open_dirs.append(make_run_dir(tmp_path, "job"))
    assert fcntl.fcntl(open_dirs[0].lock, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_discard_removes_a_new_directory_and_keeps_an_old_one(tmp_path):
    new = make_run_dir(tmp_path, "new")
    new.discard()
    assert not new.path.exists()
    old = make_run(tmp_path / "old")
    reopen_run_dir(old).discard()
    assert (old / "config.json").exists()


def checkpoint(path, step, *, torn=False):
    folder = path / "checkpoints" / f"step_{step:05d}{'.tmp' if torn else ''}"
    folder.mkdir(parents=True)
    saved = SavedState(step, 0, 1, Fingerprint(1, ["f"]), 0, 0.0, evaluations=[{"step": 0.0}])
    (folder / "controller.json").write_bytes(msgspec.json.encode(saved))
    return folder


def test_the_newest_committed_checkpoint_is_found_and_torn_ones_are_reported(tmp_path):
    for step in (2, 10, 9):
        checkpoint(tmp_path, step)
    checkpoint(tmp_path, 12, torn=True)
    (tmp_path / "checkpoints" / "step_00011").mkdir()
    messages = []
    assert newest_checkpoint(tmp_path, messages.append).name == "step_00010"
    torn, damaged, checked = messages
    assert "step_00012.tmp is torn" in torn
    assert damaged == "checkpoints/step_00011 is damaged and is skipped: manifest.json is missing"
    assert checked.startswith("checked checkpoints/step_00010: 1 files, 0.0 MB in ")
    rewind(tmp_path, tmp_path / "checkpoints" / "step_00010")
    left = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert left == {"step_00002", "step_00009", "step_00010", "step_00011.damaged"}


def test_an_attempt_without_a_checkpoint_moves_aside_whole(tmp_path):
    assert newest_checkpoint(tmp_path, print) is None
    for number in (1, 2):
        for name in ("config.json", "lock", "metrics.jsonl", "ledger.sqlite", "of_a_plugin"):
            (tmp_path / name).write_text(str(number))
        (tmp_path / "logs").mkdir()
        assert start_over(tmp_path) == tmp_path / f"attempt-{number}"
        attempts = {f"attempt-{earlier}" for earlier in range(1, number + 1)}
        assert {path.name for path in tmp_path.iterdir()} == {"lock", *attempts}
        moved = {path.name for path in (tmp_path / f"attempt-{number}").iterdir()}
        assert moved == {"config.json", "logs", "metrics.jsonl", "ledger.sqlite", "of_a_plugin"}
        assert (tmp_path / f"attempt-{number}" / "metrics.jsonl").read_text() == str(number)


@pytest.mark.parametrize(
    ("summary", "steps"),
    [
        ('{"status": "done", "steps": 7}', 7),
        ('{"status": "failed", "steps": 7}', None),
        ('{"status": "done", "st', None),
        ("[]", None),
        ("{}", None),
        (None, None),
    ],
)
def test_only_a_run_that_reached_its_end_is_done(tmp_path, summary, steps):
    if summary is not None:
        (tmp_path / "summary.json").write_text(summary)
    assert steps_done(tmp_path) == steps


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        ([], True),
        (["lock"], True),
        (["lock", "keys.json"], True),
        (["lock", "notes.txt"], False),
        (["metrics.jsonl"], False),
    ],
)
def test_a_directory_is_continued_if_a_launcher_was_killed_at_its_start(tmp_path, open_dirs, names, taken):
    for name in names:
        (tmp_path / name).touch()
    if taken:
        open_dirs.append(continue_run_dir(tmp_path))
        assert open_dirs[-1].fresh
    else:
        with pytest.raises(UsageError, match="isn't an empty directory"):
            continue_run_dir(tmp_path)


def test_rewind_removes_metrics_after_the_checkpoint_and_a_torn_line(tmp_path):
    """Steps 0, 1 and 2 made version 3, which was saved before it was evaluated."""
    trained = [f'{{"step": {step}, "kind": "train"}}\n' for step in range(6)]
    evaluated = [f'{{"step": {step}, "kind": "eval"}}\n' for step in (0, 3, 4)]
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("".join(trained + evaluated) + '{"step": 1, "kin')
    rewind(tmp_path, checkpoint(tmp_path, 3))
    assert metrics.read_text() == "".join(trained[:3] + evaluated[:1])


def test_rewind_removes_trajectories_of_steps_and_evaluations_after_the_checkpoint(tmp_path):
    """Version 3 was saved before it was evaluated."""
    folder = tmp_path / "trajectories"
    folder.mkdir()
    for name in ("step_00000", "step_00002", "step_00003", "step_00011", "eval_00000", "eval_00003", "mine_00009"):
        (folder / f"{name}.parquet").write_bytes(b"rows")
    rewind(tmp_path, checkpoint(tmp_path, 3))
    left = {path.stem for path in folder.iterdir()}
    assert left == {"step_00000", "step_00002", "eval_00000", "mine_00009"}


def test_rewind_accepts_a_run_without_metrics(tmp_path):
    rewind(tmp_path, checkpoint(tmp_path, 3))
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("folder", "name", "reason"),
    [
        ("file", "a", "File exists|Not a directory"),
        ("file/below", "a", "Not a directory"),
        ("/proc", "a", "No such file or directory"),
        ("/proc/x", "a", "No such file or directory"),
        ("runs", "n" * 300, "File name too long"),
        ("nul\0", "a", "embedded null byte"),
        ("loop", "a", "File exists|Too many levels of symbolic links"),
        ("loop/below", "a", "Too many levels of symbolic links"),
    ],
)
def test_a_directory_that_cannot_be_made_is_a_usage_error(tmp_path, folder, name, reason):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for make in (lambda: make_run_dir(tmp_path / folder, name), lambda: take_run_dir(tmp_path / folder / name)):
        with pytest.raises(UsageError, match=rf"The run directory .* can't be used: ({reason})\. "):
            make()
