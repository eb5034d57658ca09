"""Make run directories, lock them, and reopen them for a resume.

Rules:

* A directory belongs to one run. rlx never writes into another run's, and never has two launchers in one.
* Files that others read are written whole (`rlx.files.write_atomic`).
* A run resumes from its newest sound checkpoint. Metrics that were recorded after it are cut off.
* A run that ended before its first checkpoint starts over in its directory. Nothing of it is removed: its files move to
  `attempt-1`, `attempt-2`, ...
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rlx.errors import UsageError
from rlx.files import write_atomic
from rlx.loggers.jsonl import cut_metrics
from rlx.names import CHECKPOINTS, CONFIG_FILE, KEYS_FILE, METRICS_FILE, PORT_FILE, SUMMARY_FILE, TRAJECTORIES

if TYPE_CHECKING:
    from rlx.config.schema import Config

_LOCK = "lock"
_ATTEMPT = "attempt-"
"""Begins the name of a folder with the files of an attempt that saved no checkpoint."""


@dataclass
class RunDir:
    """A locked run directory."""

    path: Path
    fresh: bool
    """Whether everything in it was made by this launcher."""
    lock: int
    """Descriptor of the lock file."""
    made: Sequence[Path] = ()
    """Folders above it that were made for it, innermost first."""

    def write_json(self, name: str, value: object) -> None:
        write_atomic(self.path / name, msgspec.json.format(msgspec.json.encode(value)) + b"\n")

    def close(self) -> None:
        """Unlock the directory."""
        os.close(self.lock)

    def discard(self) -> None:
        """Remove the directory of a run that never started; an earlier run's directory stays."""
        if self.fresh:
            shutil.rmtree(self.path)
        with suppress(OSError):  # another run has made its directory there
            for folder in self.made:
                folder.rmdir()
        self.close()


def make_run_dir(folder: Path, name: str) -> RunDir:
    """Make `folder/name`; `name-2`, `name-3`, ... if that exists. Raises UsageError if it can't be made."""
    with _usable(folder / name, "[run] dir and name, or --run-dir, choose another one"):
        missing = _missing(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            path = folder / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return _open(path.absolute(), fresh=True, made=missing)
    raise AssertionError("unreachable: itertools.count has no end")


def take_run_dir(path: Path) -> RunDir:
    """Make the directory `path`. Raises UsageError if it exists and isn't empty, or can't be made."""
    with _usable(path, "--run-dir chooses another one"):
        if (path / CONFIG_FILE).exists():
            raise UsageError(
                f"{path} is the directory of another run. Choose another one with --run-dir, or resume that run: "
                f"rlx run --resume {path}"
            )
        # A launcher that was killed before it wrote the config has left nothing else.
        remains = {_LOCK, KEYS_FILE}
        names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
        attempts = {name for name in names if name.startswith(_ATTEMPT)}
        if path.exists() and (not path.is_dir() or names - attempts - remains):
            raise UsageError(f"{path} isn't an empty directory. Choose another one with --run-dir.")
        missing = _missing(path.parent)
        path.mkdir(parents=True, exist_ok=True)
        return _open(path.absolute(), fresh=not attempts, made=missing)


def _missing(folder: Path) -> list[Path]:
    """Return `folder` and the folders above it, innermost first, as far as they don't exist."""
    return list(itertools.takewhile(lambda path: not path.exists(), [folder.absolute(), *folder.absolute().parents]))


def reopen_run_dir(path: Path) -> RunDir:
    """Open the directory of a run to resume. Raises UsageError if it isn't one, or if a launcher is using it."""
    with _usable(path, "A resumed run writes into it"):
        if not (path / CONFIG_FILE).exists():
            raise UsageError(
                f"{path} isn't a run directory: it has no {CONFIG_FILE}. --resume takes the directory of an earlier "
                "run."
            )
        return _open(path.absolute(), fresh=False)


def default_run_dir(config: Config) -> Path:
    """Return the directory that `--resume auto` continues in, or makes."""
    return Path(config.run.dir) / config.run.name


def continue_run_dir(path: Path) -> RunDir:
    """Open the directory of a run that may have begun before (`--resume auto`); make it if there is none."""
    return reopen_run_dir(path) if (path / CONFIG_FILE).exists() else take_run_dir(path)


def steps_done(path: Path) -> int | None:
    """Return the number of steps of a run that has reached its end; None for any other run."""
    try:
        summary = msgspec.json.decode((path / SUMMARY_FILE).read_bytes())
        return int(summary["steps"]) if summary["status"] == "done" else None
    except (OSError, ValueError, KeyError, TypeError):  # killed before its end: no summary, or a torn one
        return None


def start_over(path: Path) -> Path:
    """Move the files of an attempt that saved no checkpoint to a folder of their own; return it."""
    names = (f"{_ATTEMPT}{number}" for number in itertools.count(1))
    folder = next(path / name for name in names if not (path / name).exists())
    with _usable(path, f"The files of the earlier attempt are moved to {folder.name}"):
        entries = [entry for entry in path.iterdir() if entry.name != _LOCK and not entry.name.startswith(_ATTEMPT)]
        folder.mkdir()
        # The config comes last: whoever is killed before can do this again.
        for entry in sorted(entries, key=lambda entry: entry.name == CONFIG_FILE):
            entry.rename(folder / entry.name)
    return folder


def newest_checkpoint(path: Path, say: Callable[[str], None]) -> Path | None:
    """Return the newest checkpoint whose files are all as they were written; report torn and damaged ones by `say`.

    None if none was ever committed. Raises UsageError if there are checkpoints, and all of them are damaged.
    """
    from rlx.controller.records import checkpoint

    for torn in checkpoint.torn(path):
        say(f"{torn} is torn (the run was killed while it was written): skipped")
    damaged: list[str] = []

    def on_damaged(folder: Path, problems: list[str]) -> None:
        damaged.append(f"{CHECKPOINTS}/{folder.name}: {'; '.join(problems)}")
        say(f"{CHECKPOINTS}/{folder.name} is damaged and is skipped: {'; '.join(problems)}")

    began = time.monotonic()
    found = checkpoint.newest_sound(path, on_damaged)
    if found is not None:
        files, size = checkpoint.size_of(found)
        seconds = time.monotonic() - began
        say(f"checked {CHECKPOINTS}/{found.name}: {files} files, {size / 1e6:,.1f} MB in {seconds:.1f} s")
    elif damaged:
        raise UsageError(
            f"{path} can't be resumed: each of its checkpoints is damaged. Restore the files of one, or start again.\n"
            + "\n".join(damaged)
        )
    return found


def rewind(path: Path, checkpoint: Path) -> None:
    """Remove what is newer than the checkpoint: lines of metrics.jsonl (a torn last line, too), trajectories, torn
    checkpoints.

    Damaged checkpoints, which are newer as well, stay under another name.
    """
    from rlx.controller.records.checkpoint import load, set_aside_newer
    from rlx.controller.records.trajectories import remove_undone

    saved = load(checkpoint)
    evaluated = {int(evaluation["step"]) for evaluation in saved.evaluations}
    cut_metrics(path / METRICS_FILE, saved.version, evaluated)
    remove_undone(path / TRAJECTORIES, saved.version, evaluated)
    set_aside_newer(path, saved.version)


@contextmanager
def _usable(path: Path, advice: str) -> Iterator[None]:
    """Turn an error of the file system into a UsageError: a file in the way, no permission, too long a name."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"The run directory {path} can't be used: {reason}. {advice}.") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep launchers out of a run directory. It may be read-only, and others may read it at the same time.

    Raises UsageError if a launcher is using it.
    """
    try:
        lock = os.open(path / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # a copy of a run directory
        yield
        return
    try:
        _lock(lock, fcntl.LOCK_SH, f"{path} is the directory of a run that is still going on", "Wait for its end.")
        yield
    finally:
        os.close(lock)


def refuse_if_in_use(path: Path) -> None:
    """Raise UsageError if a launcher is using the directory. Anything else that is wrong with it is reported later."""
    with suppress(OSError, ValueError), locked(path):
        pass


def _lock(lock: int, operation: int, busy: str, advice: str) -> None:
    try:
        fcntl.flock(lock, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(lock, 300).decode(errors="replace").strip()
        raise UsageError(f"{busy} ({owner}). {advice}") from None


def _open(path: Path, *, fresh: bool, made: Sequence[Path] = ()) -> RunDir:
    lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        advice = "Wait for it, or choose another directory with --run-dir."
        _lock(lock, fcntl.LOCK_EX, f"{path} is in use by another `rlx run`", advice)
    except UsageError:
        os.close(lock)
        raise
    os.ftruncate(lock, 0)
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    os.write(lock, f"process {os.getpid()} on {socket.gethostname()}, since {since}\n".encode())
    (path / PORT_FILE).unlink(missing_ok=True)
    return RunDir(path, fresh, lock, made)
