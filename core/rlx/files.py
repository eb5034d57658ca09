"""Atomic writes: a file is either complete or absent, so readers and restarts after a crash can rely on it.

A write that fails (a full disk) fails the run with a message that names the file.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlx.errors import RunError


def write_atomic(path: Path, data: bytes | str, *, mode: int = 0o644) -> None:
    """Write `data` to a temporary file and rename it to `path`: a reader sees the old file or the new one.

    Raises OSError as `open` does.
    """
    raw = data.encode() if isinstance(data, str) else data
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(raw)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Fsync `folder`, so that renames and new files in it survive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn disk errors raised in a block that writes `what` into RunError.

    For writing only: a network timeout is an OSError, too.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise RunError(f"{what} cannot be written: {error}. Is the disk full?") from error
