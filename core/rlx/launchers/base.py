"""What a launcher is: a class (entry-point group `rlx.launchers`) that places, starts, kills and reports. No more.

It decides nothing: the supervisor in the core does. What it starts is `python -m rlx.proc nanny` with the framed boot
data on its stdin (see `rlx.boot`), and that stdin stays open for as long as the launcher lives: the nanny ends
everything below it when it closes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class ProcessSpec:
    """One process to start."""

    name: str
    """`controller`, `rollout-0`, `policy` ..."""
    log: Path
    """Where its output goes, on the machine where it runs."""
    stdin: bytes = field(repr=False)
    """What to write to its stdin, which then stays open. It holds keys: keep it out of logs and command lines."""


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

    def start(self, process: ProcessSpec) -> ProcessHandle:
        """Raises RunError where it cannot be started."""

    def close(self) -> None:
        """Kills all that it started and waits until nothing of it is left. Raises RunError where something is."""
