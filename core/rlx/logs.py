"""Whether the last lines of a process's log say more than the user is told already."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rlx.errors import UsageError

LAST_LINES = 20
"""Lines of a log that a message shows."""
_TAIL_BYTES = 64 * 1024
_SHORT = 20
"""A line that is no longer than this may be in a message by chance."""


def already_reported(last_lines: Sequence[str], exit_code: int, told: str) -> bool:
    """What the user can put right is one whole message, and the last thing in the log; other ends may have more to
    show.
    """
    if exit_code == UsageError.exit_code:
        return any(len(line) > _SHORT and line.partition(": ")[2] in told for line in last_lines)
    return bool(last_lines) and all(line in told for line in last_lines)


def last_lines(log: Path, count: int = LAST_LINES) -> list[str]:
    """The last `count` lines of a log; none if there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return []
