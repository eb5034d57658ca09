"""The contract of a launcher: a class (entry-point group `rlx.launchers`) that starts and kills processes.

It makes no decisions: the supervisor (`rlx.launch.supervisor`) does. It starts `python -m rlx.proc nanny` with
`ProcessSpec.stdin` (the framed boot data, see `rlx.boot`) on the nanny's stdin, which stays open for as long as the
launcher lives: the nanny ends its whole tree when it closes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class ProcessSpec:
    """One process to start."""

    name: str
    """`controller`, `rollout-0`, `policy` ..."""
    log: Path
    """File for its output, on the machine where it runs."""
    stdin: bytes = field(repr=False)
    """Bytes to write to its stdin, which then stays open. They hold keys: keep them out of logs and command lines."""


class ProcessHandle(Protocol):
    """One started process."""

    @property
    def name(self) -> str: ...

    @property
    def pid(self) -> int:
        """Process id of the nanny, on the machine where it runs."""

    @property
    def log(self) -> Path:
        """File for its output, on the machine where it runs."""

    def poll(self) -> int | None:
        """Return its exit code (128 + n if signal n killed it), or None while it runs. Never blocks."""

    def last_lines(self, count: int) -> list[str]:
        """Return the last `count` lines of its log, without those of earlier processes of this name."""

    def kill(self) -> None:
        """Begin to end it and everything that it started.

        Never blocks; `poll` reports when it has ended. May be called again.
        """


@runtime_checkable
class DumpingHandle(ProcessHandle, Protocol):
    """A handle that can also show where its process stands: one that has a `dump_stacks` method."""

    def dump_stacks(self) -> None:
        """Send SIGUSR2 to the nanny: the process then writes the stacks of its threads to its log. Never blocks."""


class Launcher(Protocol):
    """Made once per run, without arguments."""

    def start(self, process: ProcessSpec) -> ProcessHandle:
        """Start a process. Raises RunError if it can't be started."""

    def close(self) -> None:
        """Kill everything that it started, and wait until it has ended. Raises RunError if a process can't be ended."""
