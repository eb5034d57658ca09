"""Checkpoints: one folder `checkpoints/step_<version>`, complete or absent.

Rules:

* A checkpoint is written as `step_<version>.tmp` and committed by one rename. A folder that still ends in `.tmp` was
  torn by a crash: it is skipped with a message, and replaced by the next checkpoint of that version.
* It holds the policy's part (`policy/`) and the controller's (`controller.json`): the ledger's frontier and the
  run's history.
* The newest `checkpoint.keep` are kept, and those that the run still needs (the best one).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from rlx.errors import RunError
from rlx.files import sync_folder, write_atomic
from rlx.fingerprint import Fingerprint
from rlx.names import CHECKPOINTS
from rlx.transport.messages import BadRow

FORMAT = 1
STATE_FILE = "controller.json"
TORN = ".tmp"


class SavedState(msgspec.Struct, frozen=True):
    """The controller's part of a checkpoint."""

    version: int
    """Steps trained."""
    next_group_id: int
    """The frontier: the first id that had not been leased when the checkpoint was made; in SFT, the first position in
    the order of rows that had not been reached."""
    groups_per_step: int
    fingerprint: Fingerprint
    """The fingerprint of the training dataset."""
    dropped: int
    seconds: float
    """Run time so far, all attempts together."""
    evaluations: list[dict[str, float]] = []
    logprob_diff_max: float = 0.0
    uninformative: int = 0
    bad_rows: dict[str, int] = {}
    """Reason -> training rows dropped because they can't be used."""
    named_rows: list[BadRow] = []
    """The first of them."""
    format: int = FORMAT


def folder_of(run_dir: Path) -> Path:
    return run_dir / CHECKPOINTS


def path_of(run_dir: Path, version: int) -> Path:
    return folder_of(run_dir) / f"step_{version:05d}"


def committed(run_dir: Path) -> list[Path]:
    """Return the committed checkpoints, oldest first."""
    found = [
        path for path in folder_of(run_dir).glob("step_*") if path.suffix != TORN and (path / STATE_FILE).is_file()
    ]
    return sorted(found, key=version_of)


def torn(run_dir: Path) -> list[Path]:
    """Return the folders of checkpoints that were never committed."""
    return sorted(folder_of(run_dir).glob(f"step_*{TORN}"))


def newest(run_dir: Path, on_torn: Callable[[Path], None] = lambda _: None) -> Path | None:
    """Return the checkpoint to resume from, or None. Calls `on_torn` with each torn one."""
    for path in torn(run_dir):
        on_torn(path)
    found = committed(run_dir)
    return found[-1] if found else None


def load(path: Path) -> SavedState:
    """Read the controller's part of a checkpoint. Raises RunError if this rlx cannot read it."""
    try:
        saved = msgspec.json.decode((path / STATE_FILE).read_bytes(), type=SavedState)
    except (OSError, msgspec.MsgspecError) as error:
        raise RunError(f"{path} cannot be read as a checkpoint: {error}") from error
    if saved.format != FORMAT:
        raise RunError(f"{path} has format {saved.format}; this rlx reads format {FORMAT}")
    return saved


def begin(run_dir: Path, version: int) -> Path:
    """Create and return an empty folder for a checkpoint that is about to be written."""
    final = path_of(run_dir, version)
    path = final.with_name(final.name + TORN)
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    return path


def commit(path: Path, saved: SavedState) -> Path:
    """Add the controller's part, rename the folder to its final name, and return that."""
    write_atomic(path / STATE_FILE, msgspec.json.format(msgspec.json.encode(saved)))
    final = path.with_suffix("")
    replace_folder(path, final)
    sync_folder(final.parent)
    return final


def replace_folder(new: Path, old: Path) -> None:
    """Rename `new` to `old`, after removing `old` if it exists."""
    if old.exists():
        shutil.rmtree(old)
    new.rename(old)


def prune(run_dir: Path, *, keep: int, spare: Collection[int]) -> None:
    """Remove all but the newest `keep` checkpoints (0 keeps all) and the versions in `spare`."""
    if keep > 0:
        for old in committed(run_dir)[:-keep]:
            if version_of(old) not in spare:
                remove(old)


def remove(path: Path) -> None:
    """Remove a checkpoint."""
    # Renamed first, so that a partly removed checkpoint is never mistaken for a complete one.
    doomed = path.rename(path.with_name(path.name + TORN))
    shutil.rmtree(doomed)


def version_of(path: Path) -> int:
    """Return the version that a committed checkpoint holds, from the name of its folder."""
    return int(path.name.removeprefix("step_"))
