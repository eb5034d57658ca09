"""What a logger is: a class (entry-point group `rlx.loggers`) that gets every step's metrics.

It lives in the launcher's process.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rlx.config.schema import Config
    from rlx.transport.messages import Status


class Logger(Protocol):
    """Made as `cls(config, run_dir, steps)`, once."""

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:
        """Once a step (`kind` is `train`) and once an evaluation (`eval`)."""

    def close(self, summary: Mapping[str, Any]) -> None:
        """Once, at the run's end, with what summary.json holds."""


class LiveLogger(Logger, Protocol):
    """A logger that also wants to know, a few times a second, how the run goes."""

    def status(self, status: Status) -> None: ...


class LoggerClass(Protocol):
    """What the entry point names."""

    def __call__(self, config: Config, run_dir: Path, steps: int) -> Logger: ...
