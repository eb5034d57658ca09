"""What a logger is: a class (entry-point group `rlx.loggers`) that gets every step's metrics.

It lives in the launcher's process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class RunStatus:
    """How a run is going at this moment."""

    state: str
    """`starting`, `running`, `draining` ..."""
    step: int
    """Optimizer steps that are done."""
    steps: int
    """Steps of the whole run."""
    seconds: float
    """Since the start."""
    waiting_for: str
    """What the controller waits for; empty if for nothing."""
    metrics: dict[str, float]
    """Of the last step."""


class Logger(Protocol):
    """Made as `cls(config, run_dir, steps)`, once."""

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:
        """Once a step (`kind` is `train`) and once an evaluation (`eval`)."""

    def close(self, summary: Mapping[str, Any]) -> None:
        """Once, at the run's end, with what summary.json holds."""


class LiveLogger(Logger, Protocol):
    """A logger that also wants to know, a few times a second, how the run goes."""

    def status(self, status: RunStatus) -> None: ...
