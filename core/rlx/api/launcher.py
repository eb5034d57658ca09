"""What a launcher is: a class (entry-point group `rlx.launchers`) that places, starts, kills and reports. No more.

It decides nothing: the supervisor in the core does. What it starts is `python -m rlx.proc nanny` with the framed boot
data on its stdin (see `rlx.launch.blob`), and that stdin stays open for as long as the launcher lives: the nanny ends
everything below it when it closes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from rlx.launch.boot import Boot


class ProcessHandle(Protocol):
    """One started process."""

    @property
    def name(self) -> str: ...

    @property
    def pid(self) -> int:
        """Of the nanny, on the machine where it runs."""

    @property
    def log(self) -> Path:
        """Where its output goes, on the machine where it runs."""

    def poll(self) -> int | None:
        """Its exit code (128 + n where signal n killed it), or None while it runs. Never blocks."""

    def last_lines(self, count: int) -> list[str]:
        """The end of its log."""

    def kill(self) -> None:
        """Begins to end it and all that it started. Never blocks; `poll` says when it is done. May be called again."""


class Launcher(Protocol):
    """Made without arguments, once a run."""

    def start(self, boot: Boot) -> ProcessHandle:
        """Raises RunError where it cannot be started."""

    def close(self) -> None:
        """Kills all that it started and waits until nothing of it is left. Raises RunError where something is."""
