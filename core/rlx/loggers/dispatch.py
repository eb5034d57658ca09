"""Calls all loggers of a run.

Rule: a logger that raises is not called again, and its error fails the run, with the logger's owner in the message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlx.config.schema import Config
from rlx.errors import RlxError, RunError, attribute
from rlx.loggers.base import LiveLogger, Logger, RunStatus, Sample, SampleLogger
from rlx.plugins.objects import Contract, make_object
from rlx.plugins.session import Plugins

OwnedLogger = tuple[str, Logger]
"""The owner (`logger 'tensorboard' (rlx 0.1.0, ...)`), and the logger."""


CONTRACT = Contract(
    made_with=("config", "run_dir", "steps"),
    methods={"log": ("step", "metrics", "kind"), "close": ("summary",)},
    optional={"status": ("status",), "log_samples": ("step", "samples", "kind")},
)


@dataclass(frozen=True)
class LoggerFailure:
    """An error that a logger raised."""

    error: str
    owner: str


def make_logger(name: str, config: Config, plugins: Plugins, run_dir: Path) -> OwnedLogger:
    """Make one logger. Raises PluginError if it can't be made, or isn't a logger."""
    owner, target = plugins.owner("loggers", name), plugins.load("loggers", name)
    made: Logger = make_object(target, (config, run_dir, config.run.steps), owner=owner, contract=CONTRACT)
    return owner, made


class Loggers:
    """Passes metrics and states on to every logger that has not failed."""

    def __init__(self, loggers: Sequence[OwnedLogger]) -> None:
        self._working = list(loggers)
        self.failures: list[LoggerFailure] = []

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:
        self._call_each("log", lambda logger: logger.log(step, metrics, kind))

    def log_samples(self, step: int, samples: Sequence[Sample], kind: str) -> None:
        def call(logger: Logger) -> None:
            if isinstance(logger, SampleLogger):
                logger.log_samples(step, samples, kind)

        self._call_each("log_samples", call)

    def status(self, status: RunStatus) -> None:
        self._call_each("status", lambda logger: logger.status(status) if isinstance(logger, LiveLogger) else None)

    def close(self, summary: Mapping[str, object]) -> None:
        self._call_each("close", lambda logger: logger.close(summary))

    def _call_each(self, doing: str, call: Callable[[Logger], None]) -> None:
        for owned in list(self._working):
            owner, logger = owned
            try:
                with attribute(owner, doing, as_=RunError):
                    call(logger)
            except RlxError as error:
                self._working.remove(owned)
                self.failures.append(LoggerFailure(str(error), owner))
