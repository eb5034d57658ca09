"""The contract of a logger: a class (entry-point group `rlx.loggers`) that gets every step's metrics.

Loggers run in the launcher's process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class RunStatus:
    """The state of a run at one moment."""

    state: str
    """`starting`, `running`, `draining` ..."""
    step: int
    """Optimizer steps done."""
    steps: int
    """Steps of the whole run."""
    seconds: float
    """Seconds since the start."""
    waiting_for: str
    """The event that the controller waits for; empty if it doesn't wait."""
    metrics: dict[str, float]
    """Metrics of the last step."""


class Logger(Protocol):
    """Made once, as `cls(config, run_dir, steps)`."""

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:
        """Take the metrics of a step (`kind` is `train`) or of an evaluation (`eval`)."""

    def close(self, summary: Mapping[str, object]) -> None:
        """Finish, once, at the run's end. `summary` is the content of summary.json."""


@runtime_checkable
class LiveLogger(Logger, Protocol):
    """A logger that also follows the state of the run: one that has a `status` method."""

    def status(self, status: RunStatus) -> None:
        """Take the run's state, a few times a second."""
