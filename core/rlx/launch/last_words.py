"""Whether the last lines of a process's log say more than the user is told already."""

from __future__ import annotations

from collections.abc import Sequence

from rlx.errors import UsageError

_SHORT = 20
"""A line that is no longer than this may be in a message by chance."""


def are_told(last_lines: Sequence[str], exit_code: int, told: str) -> bool:
    """What the user can put right is one whole message, and the last thing in the log; other ends may have more to
    show.
    """
    if exit_code == UsageError.exit_code:
        return any(len(line) > _SHORT and line.partition(": ")[2] in told for line in last_lines)
    return bool(last_lines) and all(line in told for line in last_lines)
