"""Checkpoints: one folder `checkpoints/step_<version>`, complete or absent.

Rules:

* A checkpoint is written as `step_<version>.tmp` and committed by one rename. A folder that still ends in `.tmp` was
  torn by a crash: it is skipped with a message, and replaced by the next checkpoint of that version.
* It holds the policy's part (`policy/`) and the controller's (`controller.json`): the ledger's frontier and the
  run's history. `hooks.json` has the states of hooks plugins. `manifest.json` has the size and the checksum of every
  file (manifest.py).
* A damaged checkpoint is never used: a reader takes the newest sound one before it, and says so.
* The newest `checkpoint.keep` are kept, and those that the run still needs (the best one).
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import structs

from rlx.controller.records.manifest import MANIFEST, Manifest, damaged_files, file_sums
from rlx.errors import RunError
from rlx.files import FileSum, sync_folder, write_atomic
from rlx.fingerprint import Fingerprint
from rlx.names import CHECKPOINTS
from rlx.transport.messages import BadRow

UNCHECKED = 1
"""The format of checkpoints without a manifest, which earlier versions of rlx wrote."""
FORMAT = 2
STATE_FILE = "controller.json"
HOOKS_FILE = "hooks.json"
POLICY_PART = "policy"
TORN = ".tmp"
DAMAGED = ".damaged"
_NAME = re.compile(r"step_\d+")


class HookState(msgspec.Struct, frozen=True):
    """The state of one hooks plugin in a checkpoint."""

    owner: str
    """The plugin with its distribution, as messages name it."""
    state: dict[str, Any]


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
    untrained: list[int] | None = None
    """Ids below the frontier that were neither trained nor dropped, sorted. With them the checkpoint needs no ledger to
    be right. None: an earlier version of rlx wrote it."""
    config: dict[str, Any] = {}
    """The resolved config with which it was made, as in config.json; empty: an earlier version of rlx wrote it."""
    evaluations_skipped: int = 0
    """Evaluations that fell due and were not made, since another one was out."""
    format: int = UNCHECKED
    """`commit` sets the one that it writes."""

    @property
    def groups_dropped(self) -> int:
        """Groups that an RL run has dropped, for whatever reason."""
        return self.dropped + self.uninformative + sum(self.bad_rows.values())


def folder_of(run_dir: Path) -> Path:
    return run_dir / CHECKPOINTS


def path_of(run_dir: Path, version: int) -> Path:
    return folder_of(run_dir) / f"step_{version:05d}"


def committed(run_dir: Path) -> list[Path]:
    """Return the committed checkpoints, oldest first."""
    return [path for path in _folders(run_dir) if (path / STATE_FILE).is_file()]


def _folders(run_dir: Path) -> list[Path]:
    """Return all folders with the name of a checkpoint, oldest first."""
    found = [path for path in folder_of(run_dir).glob("step_*") if _NAME.fullmatch(path.name)]
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


def newest_sound(run_dir: Path, on_damaged: Callable[[Path, list[str]], None]) -> Path | None:
    """Return the newest checkpoint without damage; None if there is none.

    Calls `on_damaged` with each newer one and with what is wrong with it, newest first.
    """
    for path in reversed(_folders(run_dir)):
        problems = verify_checkpoint(path)
        if not problems:
            return path
        on_damaged(path, problems)
    return None


def verify_checkpoint(path: Path) -> list[str]:
    """Read every file of a checkpoint, and return what is wrong with it; empty if it is sound.

    A problem is a sentence that begins with the file's path within the checkpoint. Of a checkpoint that an earlier
    version of rlx wrote without checksums, only the controller's part can be checked.
    """
    try:
        saved = load(path)
    except RunError as error:
        # The manifest knows more about a damaged file than its reader.
        return damaged_files(path) or [f"{STATE_FILE}: {error}"]
    if saved.version != version_of(path):
        return [f"{STATE_FILE} is that of step {saved.version}"]
    # The format alone decides nothing: a flipped bit would turn the check off.
    unchecked = saved.format == UNCHECKED and not (path / MANIFEST).exists()
    return [] if unchecked else damaged_files(path)


def size_of(path: Path) -> tuple[int, int]:
    """Return the number of files in a checkpoint, and their bytes."""
    sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
    return len(sizes), sum(sizes)


def set_aside_newer(run_dir: Path, version: int) -> None:
    """Clear the way for a run that continues from the checkpoint of `version`.

    Torn checkpoints are removed. Newer ones, which are damaged, are renamed: as `step_<version>.damaged` they are
    neither resumed from nor counted among those to keep.
    """
    for path in torn(run_dir):
        shutil.rmtree(path)
    for path in _folders(run_dir):
        if version_of(path) > version:
            names = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
            places = (path.with_name(f"{path.name}{number}{DAMAGED}") for number in names)
            path.rename(next(place for place in places if not place.exists()))


def load(path: Path) -> SavedState:
    """Read the controller's part of a checkpoint. Raises RunError if this rlx cannot read it."""
    try:
        saved = msgspec.json.decode((path / STATE_FILE).read_bytes(), type=SavedState)
    except (OSError, msgspec.MsgspecError) as error:
        raise RunError(f"{path} cannot be read as a checkpoint: {error}") from error
    if saved.format not in {UNCHECKED, FORMAT}:
        raise RunError(f"{path} has format {saved.format}; this rlx reads formats up to {FORMAT}")
    return saved


def begin(run_dir: Path, version: int) -> Path:
    """Create and return an empty folder for a checkpoint that is about to be written."""
    final = path_of(run_dir, version)
    path = final.with_name(final.name + TORN)
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    return path


def hook_states(path: Path) -> dict[str, HookState]:
    """Read the states of hooks plugins, by name of the plugin. Raises RunError if they can't be read."""
    try:
        return msgspec.convert(json.loads((path / HOOKS_FILE).read_bytes()), type=dict[str, HookState])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path / HOOKS_FILE} cannot be read: {error}") from error


def commit(
    path: Path,
    saved: SavedState,
    policy_files: Mapping[str, FileSum],
    states: Mapping[str, HookState] = MappingProxyType({}),
) -> Path:
    """Add the controller's part and the manifest, rename the folder to its final name, and return that.

    policy_files: the files of the policy's part, by name, as they were written and fsynced.
    states: the states of hooks plugins, by name.
    """
    saved = structs.replace(saved, format=FORMAT)
    write_atomic(path / STATE_FILE, msgspec.json.format(msgspec.json.encode(saved)))
    own = [STATE_FILE]
    if states:
        # By json, as the check of the states: msgspec refuses integers beyond 64 bits.
        content = {name: {"owner": found.owner, "state": found.state} for name, found in states.items()}
        write_atomic(path / HOOKS_FILE, json.dumps(content, indent=2, allow_nan=False))
        own.append(HOOKS_FILE)
    files = file_sums(path, own) | {f"{POLICY_PART}/{name}": found for name, found in policy_files.items()}
    Manifest(files).write(path)
    final = path.with_suffix("")
    replace_folder(path, final)
    return final


def replace_folder(new: Path, old: Path) -> None:
    """Rename `new` to `old`, which may exist: it is removed last, so that a crash at any moment loses neither."""
    if old.exists():
        replaced = old.with_name(f"{old.name}.replaced{TORN}")
        shutil.rmtree(replaced, ignore_errors=True)
        old.rename(replaced)
        new.rename(old)
        shutil.rmtree(replaced)
    else:
        new.rename(old)
    sync_folder(old.parent)


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
