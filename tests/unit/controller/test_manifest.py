"""Damage to a checkpoint, of every kind, is found before anything in it is used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rlx.controller.records import checkpoint
from rlx.controller.records.checkpoint import SavedState, verify_checkpoint
from rlx.earlier.directory import ended_run
from rlx.errors import UsageError
from rlx.files import file_sum
from rlx.fingerprint import Fingerprint
from rlx.launch.run_dir import newest_checkpoint, rewind

WEIGHTS = "policy/rank_00000-00001.safetensors"


@pytest.fixture
def saved(tmp_path):
    """`saved(4)`: commit a checkpoint of that version, and return its folder."""

    def make(version: int) -> Path:
        folder = checkpoint.begin(tmp_path, version)
        (folder / "policy").mkdir()
        (folder / WEIGHTS).write_bytes(bytes(range(256)) * 40)
        (folder / "policy" / "state.json").write_text('{"step":4,"ranks":1}')
        files = {path.name: file_sum(path) for path in (folder / "policy").iterdir()}
        return checkpoint.commit(folder, SavedState(version, 16, 4, Fingerprint(1, ["f"]), 0, 1.0), files)

    return make


def flip(path: Path, at: int = 100) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def extend(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def of_step_2(folder: Path) -> None:
    """Copy the checkpoint before over it: every file is sound, but they are another version's."""
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("step_00002"), folder)


def without(name: str, folder: Path) -> None:
    """Leave a file out of the manifest."""
    content = json.loads((folder / "manifest.json").read_text())
    del content["files"][name]
    (folder / "manifest.json").write_text(json.dumps(content))


DAMAGE = {
    "a flipped bit of the weights": (lambda folder: flip(folder / WEIGHTS), f"{WEIGHTS} is damaged"),
    "their last byte": (lambda folder: flip(folder / WEIGHTS, -1), f"{WEIGHTS} is damaged"),
    "truncated": (lambda folder: cut(folder / WEIGHTS), f"{WEIGHTS} has 10,239 bytes instead of 10,240"),
    "longer": (lambda folder: extend(folder / WEIGHTS), f"{WEIGHTS} has 10,241 bytes instead of 10,240"),
    "empty file": (lambda folder: (folder / WEIGHTS).write_bytes(b""), f"{WEIGHTS} has 0 bytes"),
    "missing": (lambda folder: (folder / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
    "a folder in its place": (
        lambda folder: ((folder / WEIGHTS).unlink(), (folder / WEIGHTS).mkdir()),
        f"{WEIGHTS} is missing",
    ),
    "policy state": (lambda folder: flip(folder / "policy" / "state.json"), "policy/state.json is damaged"),
    "controller state": (lambda folder: flip(folder / "controller.json"), "controller.json is damaged"),
    "no controller state": (lambda folder: (folder / "controller.json").unlink(), "controller.json is missing"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing"),
    "cut manifest": (lambda folder: cut(folder / "manifest.json"), "manifest.json can't be read"),
    "binary manifest": (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\x00"), "manifest.json can't be"),
    "manifest of nothing": (
        lambda folder: (folder / "manifest.json").write_text('{"files": {}}'),
        "manifest.json lists no file",
    ),
    "manifest without the weights": (lambda folder: without(WEIGHTS, folder), f"{WEIGHTS} isn't in manifest.json"),
    "foreign weights": (
        lambda folder: (folder / "policy" / "other.safetensors").write_bytes(b"x"),
        "policy/other.safetensors isn't in manifest.json",
    ),
    "no policy": (lambda folder: shutil.rmtree(folder / "policy"), f"{WEIGHTS} is missing"),
    "empty folder": (empty, "manifest.json is missing"),
    "another version": (of_step_2, "controller.json is that of step 2"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(saved, tmp_path, kind):
    damage, message = DAMAGE[kind]
    before, newest = saved(2), saved(4)
    assert verify_checkpoint(newest) == []
    damage(newest)
    assert any(problem.startswith(message) for problem in verify_checkpoint(newest)), verify_checkpoint(newest)
    said: list[str] = []
    assert newest_checkpoint(tmp_path, said.append) == before
    assert said[0].startswith(f"checkpoints/step_00004 is damaged and is skipped: {message}")
    assert said[1].startswith("checked checkpoints/step_00002: 4 files, 0.0 MB")
    rewind(tmp_path, before)
    assert sorted(path.name for path in newest.parent.iterdir()) == ["step_00002", "step_00004.damaged"]
    assert checkpoint.committed(tmp_path) == [before]
    saved(4)  # made again, and damaged again
    damage(newest)
    rewind(tmp_path, before)
    assert len(list(newest.parent.glob("step_00004*.damaged"))) == 2


def test_a_flip_of_any_single_byte_is_found(saved):
    folder = saved(4)
    for name in (WEIGHTS, "policy/state.json", "controller.json"):
        whole = (folder / name).read_bytes()
        for at in range(0, len(whole), max(1, len(whole) // 50)):
            flip(folder / name, at)
            assert verify_checkpoint(folder), (name, at)
            (folder / name).write_bytes(whole)
    assert verify_checkpoint(folder) == []


def test_a_flipped_byte_of_the_manifest_hides_nothing(saved):
    """Some bytes of a manifest have no meaning (spaces). None of them, changed, makes damaged weights sound."""
    folder = saved(4)
    flip(folder / WEIGHTS)
    whole = (folder / "manifest.json").read_bytes()
    for at in range(len(whole)):
        flip(folder / "manifest.json", at)
        assert verify_checkpoint(folder), at
        (folder / "manifest.json").write_bytes(whole)


def test_without_a_sound_checkpoint_the_error_names_all(saved, tmp_path):
    for version in (2, 4):
        flip(saved(version) / WEIGHTS)
    with pytest.raises(UsageError, match=r"each of its checkpoints is damaged.*\n.*step_00004.*\n.*step_00002: policy"):
        newest_checkpoint(tmp_path, lambda _: None)


def test_a_run_without_any_checkpoint_has_none_that_is_damaged(tmp_path):
    assert newest_checkpoint(tmp_path, lambda _: None) is None


def test_a_checkpoint_of_an_earlier_version_has_no_checksums(saved, tmp_path):
    folder = saved(4)
    (folder / "manifest.json").unlink()
    state = json.loads((folder / "controller.json").read_text())
    (folder / "controller.json").write_text(json.dumps(state | {"format": checkpoint.UNCHECKED}))
    assert verify_checkpoint(folder) == []


def test_names_in_a_manifest_are_never_used_as_paths(saved, tmp_path):
    folder = saved(4)
    (tmp_path / "secret").write_text("s")
    found = file_sum(tmp_path / "secret")
    content = json.loads((folder / "manifest.json").read_text())
    content["files"]["../../secret"] = {"bytes": found.bytes, "sha256": found.sha256}
    (folder / "manifest.json").write_text(json.dumps(content))
    assert verify_checkpoint(folder) == ["../../secret is missing"]


def test_an_export_takes_the_newest_sound_checkpoint_or_refuses_the_one_that_was_named(saved, tmp_path):
    config = {"model": {"path": "tiny"}, "dataset": {"name": "arithmetic"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "environment.json").write_text(json.dumps({"folder": ".", "base_dir": ".", "script": None}))
    before, newest = saved(2), saved(4)
    flip(newest / WEIGHTS)
    said: list[str] = []
    with ended_run(tmp_path) as run:
        assert run.checkpoint("newest", said.append) == before
        assert said[0].startswith(f"checkpoints/step_00004 is damaged: {WEIGHTS}")
        assert run.checkpoint("2") == before
        with pytest.raises(UsageError, match=r"step_00004 is damaged: policy/rank.*Without --step, the newest sound"):
            run.checkpoint("4")
        flip(before / WEIGHTS)
        with pytest.raises(UsageError, match=r"has no sound checkpoint.\n.*step_00004.*\n.*step_00002"):
            run.checkpoint("newest")
