"""Checkpoints: one folder `checkpoints/step_<version>`, whole or absent.

* It is written as `step_<version>.tmp` and committed by one rename. What still ends in `.tmp` was torn by a crash:
  it is skipped, with a message, and replaced by the next checkpoint of that version.
* It holds the policy's part (`policy/`) and the controller's (`controller.json`): the ledger's frontier and the
  run's history.
* The newest few are kept, and whatever the run still has a use for (the best one).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import msgspec

from rlx.errors import RunError
from rlx.files import sync_folder, write_atomic
from rlx.fingerprint import Fingerprint
from rlx.names import CHECKPOINTS

FORMAT = 1
STATE_FILE = "controller.json"
TORN = ".tmp"


class Saved(msgspec.Struct, frozen=True):
    """The controller's part of a checkpoint."""

    version: int
    """Steps trained."""
    next_group_id: int
    """The frontier: ids from here on were never leased when the checkpoint was made."""
    groups_per_step: int
    fingerprint: Fingerprint
    """Of the training dataset."""
    dropped: int
    seconds: float
    """Run time so far, all attempts together."""
    evaluations: list[dict[str, float]] = []
    logprob_diff_max: float = 0.0
    uninformative: int = 0
    format: int = FORMAT


def folder_of(run_dir: Path) -> Path:
    return run_dir / CHECKPOINTS


def path_of(run_dir: Path, version: int) -> Path:
    return folder_of(run_dir) / f"step_{version:05d}"


def committed(run_dir: Path) -> list[Path]:
    """Committed checkpoints, oldest first."""
    found = [
        path for path in folder_of(run_dir).glob("step_*") if path.suffix != TORN and (path / STATE_FILE).is_file()
    ]
    return sorted(found, key=_version)


def torn(run_dir: Path) -> list[Path]:
    return sorted(folder_of(run_dir).glob(f"step_*{TORN}"))


def newest(run_dir: Path, skipped: Callable[[Path], None] = lambda _: None) -> Path | None:
    """The checkpoint to resume from; None where there is none. `skipped` hears of each torn one."""
    for path in torn(run_dir):
        skipped(path)
    found = committed(run_dir)
    return found[-1] if found else None


def load(path: Path) -> Saved:
    """Raises RunError where `path` is no checkpoint that this rlx can read."""
    try:
        saved = msgspec.json.decode((path / STATE_FILE).read_bytes(), type=Saved)
    except (OSError, msgspec.MsgspecError) as error:
        raise RunError(f"{path} is no checkpoint to resume from: {error}") from error
    if saved.format != FORMAT:
        raise RunError(f"{path} has format {saved.format}; this rlx reads format {FORMAT}")
    return saved


def begin(run_dir: Path, version: int) -> Path:
    """An empty folder for a checkpoint that is being written."""
    final = path_of(run_dir, version)
    path = final.with_name(final.name + TORN)
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    return path


def commit(path: Path, saved: Saved) -> Path:
    """Adds the controller's part, and makes the checkpoint count."""
    write_atomic(path / STATE_FILE, msgspec.json.format(msgspec.json.encode(saved)))
    final = path.with_suffix("")
    if final.exists():
        shutil.rmtree(final)
    path.rename(final)
    sync_folder(final.parent)
    return final


def prune(run_dir: Path, *, keep: int, spare: Collection[int]) -> None:
    """Removes all but the newest `keep` (0: none is removed) and the versions in `spare`."""
    if keep > 0:
        for old in committed(run_dir)[:-keep]:
            if _version(old) not in spare:
                remove(old)


def remove(path: Path) -> None:
    """By way of a torn name, so that a half-removed checkpoint is never taken for a whole one."""
    doomed = path.rename(path.with_name(path.name + TORN))
    shutil.rmtree(doomed)


def _version(path: Path) -> int:
    return int(path.name.removeprefix("step_"))


def as_dict(saved: Saved) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(saved)
    return fields
