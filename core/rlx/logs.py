"""Read the last lines of a process's log, and check whether a message to the user has them already."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rlx.errors import UsageError

LAST_LINES = 20
"""How many lines of a log a message shows."""
_TAIL_BYTES = 64 * 1024
_SHORT = 20
"""A line of at most this many characters may be in a message by chance."""


def last_lines(log: Path, count: int = LAST_LINES) -> list[str]:
    """Return the last `count` lines of a log; an empty list if the file doesn't exist."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return []


def already_reported(lines: Sequence[str], exit_code: int, reported: str) -> bool:
    """Return whether the text `reported` has all that `lines`, the last ones of an ended process's log, would add.

    A UsageError is one message and the last entry of the log, so one line of it that was reported is enough. After any
    other end all lines must have been reported.
    """
    if exit_code == UsageError.exit_code:
        return any(len(line) > _SHORT and line.partition(": ")[2] in reported for line in lines)
    return bool(lines) and all(line in reported for line in lines)
