"""Atomic writes: a file is either complete or absent, so readers and restarts after a crash can rely on it.

A write that fails (a full disk) fails the run with a message that names the file. `file_sum` returns the size and the
checksum by which a reader notices that a file has changed since.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from rlx.errors import RunError


class FileSum(msgspec.Struct, frozen=True):
    """Size and checksum of a file."""

    bytes: int
    sha256: str
    """64 hexadecimal digits, as `sha256sum` prints them."""


def file_sum(path: Path) -> FileSum:
    """Read a whole file and return its size and checksum. Raises OSError as `open` does."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileSum(file.tell(), digest)


def sync_file(path: Path) -> None:
    """Fsync a file that a library has written, so that its content survives a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_QUESTIONS = {
    errno.ENOSPC: " Is the disk full?",
    errno.EDQUOT: " Is your quota of the disk used up?",
    errno.EROFS: " Is it mounted read-only?",
    errno.EIO: " The disk itself reports the error: see `dmesg`.",
    errno.ESTALE: " Has the network file system been mounted anew?",
}
"""Number of a system's error -> what to look for."""


def write_atomic(path: Path, data: bytes | str, *, mode: int = 0o666) -> None:
    """Write `data` to a temporary file and rename it to `path`: a reader sees the old file or the new one.

    mode: the permissions, from which the process's umask takes bits away, as for any new file.

    Raises OSError as `open` does.
    """
    raw = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    # Not `tempfile`: its files are the owner's alone, and their mode could not be set to that of other new files
    # without changing the umask of the whole process for a moment.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # it is still there if the write was interrupted or failed
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Fsync `folder`, so that renames and new files in it survive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def share_file(path: Path) -> None:
    """Give a file that a library made for its owner alone the permissions of other new files.

    They are those of its folder, which rlx has made, without the right to execute.
    """
    path.chmod(path.parent.stat().st_mode & 0o666)


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn disk errors raised in a block that writes `what` into RunError.

    For writing only: a network timeout is an OSError, too.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise RunError(f"{what} cannot be written: {error}.{disk_question(error)}") from error


def disk_question(error: BaseException) -> str:
    """Return what to look for after a failed write: " Is the disk full?"; "" if the error does not say."""
    if isinstance(error, sqlite3.Error):  # has a text of its own: "database or disk is full"
        return " Is the disk full, or mounted read-only?"
    return _QUESTIONS.get(error.errno or 0, "") if isinstance(error, OSError) else ""
