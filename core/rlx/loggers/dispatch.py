"""The run's loggers, all of them, and who answers for each.

The rule of this part: a logger that raises is not called again, and its error becomes the run's, with its owner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlx.config.schema import Config
from rlx.errors import RlxError, RunError, attribute
from rlx.loggers.base import Logger, RunStatus
from rlx.plugins.session import Plugins

OwnedLogger = tuple[str, Logger]
"""Whom to turn to (`logger 'tensorboard' (rlx 0.1.0, ...)`), and the logger."""


@dataclass(frozen=True)
class LoggerFailure:
    """What a logger raised."""

    error: str
    owner: str


def load_loggers(config: Config, plugins: Plugins, run_dir: Path) -> list[OwnedLogger]:
    """Those that the config names. Raises PluginError where one cannot be had."""
    return [
        (plugins.owner("loggers", name), plugins.load("loggers", name)(config, run_dir, config.run.steps))
        for name in config.run.loggers
    ]


class Loggers:
    """Passes on what comes from the controller."""

    def __init__(self, loggers: Sequence[OwnedLogger]) -> None:
        self._working = list(loggers)
        self.failures: list[LoggerFailure] = []

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:
        self._each("log", lambda logger: logger.log(step, metrics, kind))

    def status(self, status: RunStatus) -> None:
        self._each("status", lambda logger: _show(logger, status))

    def close(self, summary: Mapping[str, Any]) -> None:
        self._each("close", lambda logger: logger.close(summary))

    def _each(self, doing: str, call: Callable[[Logger], None]) -> None:
        for owned in list(self._working):
            owner, logger = owned
            try:
                with attribute(owner, doing, as_=RunError):
                    call(logger)
            except RlxError as error:
                self._working.remove(owned)
                self.failures.append(LoggerFailure(str(error), owner))


def _show(logger: Logger, status: RunStatus) -> None:
    # `status` is the part of a logger that it need not have.
    show = getattr(logger, "status", None)
    if show is not None:
        show(status)
