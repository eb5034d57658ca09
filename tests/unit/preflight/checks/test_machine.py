from __future__ import annotations

import os

import pytest

from rlx.config.schema import Config
from rlx.errors import UsageError
from rlx.preflight.checks.machine import check_writable, disk_need, disk_notes, missing_devices


def _config(**sections):
    return Config.model_validate({"model": {"path": "m"}, "dataset": {"name": "d"}, **sections})


def _snapshot(folder):
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("file", "file isn't a folder"),
        ("file/below/it", "file isn't a folder"),
        ("dangling", "is a link to 'nowhere', which does not exist"),
        ("dangling/below", "is a link to 'nowhere', which does not exist"),
        ("loop/x", "symbolic links"),
        ("x" * 300, "has 300 bytes, and a name has at most 255"),
        ("é" * 200, "has 400 bytes"),
        ("a\0b", "NUL"),
        ("/proc/x", "belongs to the kernel"),
        ("/sys/x/y", "belongs to the kernel"),
        ("/dev/null/x", "/dev/null isn't a folder"),
    ],
)
def test_a_folder_that_cannot_be_made_is_refused_and_nothing_is_made(tmp_path, path, problem):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    before = _snapshot(tmp_path)
    with pytest.raises(UsageError) as caught:
        check_writable(tmp_path / path, "[run] dir")
    assert problem in str(caught.value)
    assert str(caught.value).startswith("[run] dir: nothing can be written in ")
    assert _snapshot(tmp_path) == before


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_of_others_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="can't be written to"):
        check_writable(tmp_path / "runs", "[run] dir")


@pytest.mark.parametrize("path", [".", "runs", "a/b/c", "x" * 255, "link/below", "é"])
def test_a_folder_that_can_be_made_passes_and_is_not_made(tmp_path, path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    before = _snapshot(tmp_path)
    check_writable(tmp_path / path, "[run] dir")
    assert _snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("checkpoint", "steps", "checkpoints"),
    [
        ({}, 100, 1),
        ({"every": 10}, 100, 3),
        ({"every": 10, "keep": 0}, 100, 10),
        ({"every": 10, "keep": 4}, 25, 3),
        ({"every": 1000}, 100, 1),
        ({"every": 10, "keep": 1, "best": {"metric": "eval/loss"}}, 100, 3),
    ],
)
def test_the_need_of_the_disk_is_that_computed_by_hand(checkpoint, steps, checkpoints):
    """12 bytes for each parameter and checkpoint, 2 for the export."""
    tree = {"eval": {"dataset": {"name": "d"}, "every": 10}} if "best" in checkpoint else {}
    config = _config(run={"steps": steps}, checkpoint=checkpoint, **tree)
    assert disk_need(config, 1000) == 12_000 * checkpoints + 2_000
    without = config.checkpoint.model_copy(update={"export": False})
    assert disk_need(config.model_copy(update={"checkpoint": without}), 1000) == 12_000 * checkpoints


def test_too_small_a_disk_has_a_note(tmp_path):
    config = _config(run={"dir": str(tmp_path / "runs")})
    (note,) = disk_notes(config, 10**16, tmp_path / "runs")
    assert note.startswith("Checkpoints and export need about 130385160.")
    assert f"free in {tmp_path}" in note
    assert list(disk_notes(config, 1000, tmp_path)) == []
    assert list(disk_notes(config, None, tmp_path)) == []


def test_cpu_runs_need_no_devices():
    assert missing_devices(_config(), rollouts=True) == ()


def test_another_launcher_may_start_the_processes_elsewhere():
    assert missing_devices(_config(run={"device": "cuda", "launcher": "slurm"}), rollouts=True) == ()
