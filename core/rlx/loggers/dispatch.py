"""Calls all loggers of a run, each in a thread of its own.

Rules:

* The launcher never waits for a logger, and loggers don't wait for one another: one that blocks (an upload, a network
  file system) stops neither the supervision of the run nor its display.
* A logger's calls come in order, one at a time. Of the states that wait for it, only the newest is passed on.
* A logger that raises, or whose call takes longer than the limit, is not called again, and its error fails the run,
  with the logger's owner in the message.
* At the end of the run every logger has a limited time for its remaining calls and for `close`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlx.config.schema import Config
from rlx.config.sections.run import PATIENCE, RunConfig
from rlx.errors import RlxError, RunError, attribute
from rlx.loggers.base import LiveLogger, Logger, RevisingLogger, RunStatus, Sample, SampleLogger
from rlx.plugins.objects import Contract, make_object
from rlx.plugins.session import Plugins

OwnedLogger = tuple[str, Logger]
"""The owner (`logger 'tensorboard' (rlx 0.1.0, ...)`), and the logger."""


CONTRACT = Contract(
    made_with=("config", "run_dir", "steps"),
    methods={"log": ("step", "metrics", "kind"), "close": ("summary",)},
    optional={"status": ("status",), "log_samples": ("step", "samples", "kind"), "went_back": ("step", "evaluated")},
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


MAX_WAITING = 10_000
"""Calls that may wait for a logger: more than a run makes within the limit of one call."""
CLOSE_SECONDS = 120.0
"""How long the end of a run waits for loggers."""
CLOSE_REPORT_SECONDS = 10.0
"""After this time the user sees which loggers the end of the run waits for."""


@dataclass(frozen=True)
class LoggerLimits:
    """When a call of a logger that still runs is reported, and when it is given up."""

    report_seconds: float = 60.0
    give_up_seconds: float = 3600.0

    @classmethod
    def of(cls, run: RunConfig) -> LoggerLimits:
        """Return the limits of a run, which are those of hooks."""
        return cls(min(run.heartbeat_seconds, run.stall_seconds), run.patience)


@dataclass(frozen=True)
class _Call:
    doing: str
    """The method."""
    call: Callable[[Logger], None]


class _LoggerThread:
    """One logger, the calls that wait for it, and the thread that makes them."""

    def __init__(self, owner: str, logger: Logger, fail: Callable[[LoggerFailure], None]) -> None:
        self.owner = owner
        self._logger = logger
        self._fail = fail
        self._waiting: deque[_Call] = deque()
        self._changed = threading.Condition()
        self._running: tuple[str, float] | None = None
        self._report_at = 0.0
        self._ended = False
        # A daemon, since a logger may never return: Python would wait for any other thread before it exits.
        threading.Thread(target=self._run, name=f"rlx-logger {owner}", daemon=True).start()

    def put(self, call: _Call) -> None:
        """Make a call soon. Of several `status` calls in a row, only the last one is made."""
        with self._changed:
            if self._ended:
                return
            if self._waiting and call.doing == self._waiting[-1].doing == "status":
                self._waiting.pop()
            self._waiting.append(call)
            full = len(self._waiting) > MAX_WAITING
            self._changed.notify_all()
        if full:
            self.give_up(f"{self.owner}: {len(self._waiting)} calls wait for it")

    def seconds(self) -> tuple[str, float]:
        """Return the method that runs, and for how long; "" and 0 between calls."""
        running = self._running
        return ("", 0.0) if running is None else (running[0], time.monotonic() - running[1])

    def overdue(self, limits: LoggerLimits) -> str:
        """Return a warning if the running call has taken long, once each time that its time has doubled."""
        doing, seconds = self.seconds()
        if seconds < limits.report_seconds:
            self._report_at = limits.report_seconds
            return ""
        text = f"{self.owner}: {doing} has been running for {seconds:.0f} s"
        if seconds >= limits.give_up_seconds:
            self.give_up(f"{text}, longer than {PATIENCE} times [run] stall_seconds")
        if self._ended or seconds < self._report_at:
            return ""
        self._report_at *= 2
        return (
            f"{text}, and {len(self._waiting)} calls wait for it. The run goes on without it, and fails if it takes "
            f"longer than {limits.give_up_seconds:g} s ({PATIENCE} times [run] stall_seconds)."
        )

    def give_up(self, error: str) -> None:
        """Call the logger no more, and report `error`, unless it has ended already."""
        with self._changed:
            if self._ended:
                return
            self._ended = True
            self._waiting.clear()
            self._changed.notify_all()
        self._fail(LoggerFailure(error, self.owner))

    def wait(self, seconds: float) -> bool:
        """Wait until all calls are made, at most `seconds`. Returns whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended or not (self._waiting or self._running), seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._running = None
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if self._ended:
                    return
                next_call = self._waiting.popleft()
                self._running = (next_call.doing, time.monotonic())
            try:
                with attribute(self.owner, next_call.doing, as_=RunError):
                    next_call.call(self._logger)
            except RlxError as error:
                self.give_up(str(error))
                return


class Loggers:
    """Passes metrics and states on to every logger that has not failed."""

    def __init__(self, loggers: Sequence[OwnedLogger], limits: LoggerLimits | None = None) -> None:
        self._limits = limits or LoggerLimits()
        self.failures: list[LoggerFailure] = []
        self._threads = [_LoggerThread(owner, logger, self.failures.append) for owner, logger in loggers]

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:
        self._call_each("log", lambda logger: logger.log(step, metrics, kind))

    def log_samples(self, step: int, samples: Sequence[Sample], kind: str) -> None:
        def call(logger: Logger) -> None:
            if isinstance(logger, SampleLogger):
                logger.log_samples(step, samples, kind)

        self._call_each("log_samples", call)

    def went_back(self, step: int, evaluated: Collection[int]) -> None:
        def call(logger: Logger) -> None:
            if isinstance(logger, RevisingLogger):
                logger.went_back(step, evaluated)

        self._call_each("went_back", call)

    def status(self, status: RunStatus) -> None:
        self._call_each("status", lambda logger: logger.status(status) if isinstance(logger, LiveLogger) else None)

    def overdue(self) -> list[str]:
        """Return warnings about loggers whose call takes long. One that exceeds the limit becomes a failure."""
        return list(filter(None, [thread.overdue(self._limits) for thread in self._threads]))

    def close(self, summary: Mapping[str, object], say: Callable[[str], None] = lambda _: None) -> None:
        """Make the remaining calls and close all loggers, in limited time; `say` shows which ones take long."""
        self._call_each("close", lambda logger: logger.close(summary))
        for seconds in (CLOSE_REPORT_SECONDS, CLOSE_SECONDS - CLOSE_REPORT_SECONDS):
            deadline = time.monotonic() + seconds
            late = [thread for thread in self._threads if not thread.wait(max(0.0, deadline - time.monotonic()))]
            for thread in late:
                text = f"{thread.owner}: {thread.seconds()[0]} still runs at the end of the run"
                if seconds == CLOSE_REPORT_SECONDS:
                    say(f"{text}; waiting for it, at most {CLOSE_SECONDS:g} s")
                else:
                    thread.give_up(f"{text} after {CLOSE_SECONDS:g} s; what it has not written is lost")

    def _call_each(self, doing: str, call: Callable[[Logger], None]) -> None:
        for thread in self._threads:
            thread.put(_Call(doing, call))
