"""How a run ended, and what the user is told of it.

The rewards and hooks that cost most, for the end of a run: in the manner of pytest's --durations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rlx.launchers.base import ProcessHandle
from rlx.logs import LAST_LINES, already_reported
from rlx.transport.messages import ProcessExited, RunEnded

KILLED_CODE = 130


@dataclass(frozen=True)
class ProcessExit:
    """A process that ended when it should not have, or with an error."""

    name: str
    code: int
    log: Path
    last_lines: list[str]
    attempt: int = 1

    @classmethod
    def of(cls, process: ProcessHandle, code: int, attempt: int = 1) -> ProcessExit:
        return cls(process.name, code, process.log, process.last_lines(LAST_LINES), attempt)

    def message(self) -> ProcessExited:
        return ProcessExited(self.name, self.code, self.last_lines, self.attempt)

    def headline(self) -> str:
        if self.code > 128:
            return f"{self.name} was killed by signal {self.code - 128}"
        when = " before the run was over" if self.code == 0 else ""
        return f"{self.name} ended with exit code {self.code}{when}"

    def report(self, told: str = "") -> str:
        """Its last lines are left out where `told` has them already."""
        if already_reported(self.last_lines, self.code, told):
            return f"{self.headline()}. Its log: {self.log}"
        lines = [f"    {line}" for line in self.last_lines] or ["    (nothing)"]
        return "\n".join([f"{self.headline()}. The last lines of {self.log}:", *lines])


@dataclass(frozen=True)
class Outcome:
    """`status` is the controller's word (`done`, ...), `failed`, or `killed`."""

    status: str
    exit_code: int
    error: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
    deaths: tuple[ProcessExit, ...] = ()

    @classmethod
    def said(cls, ended: RunEnded) -> Outcome:
        return cls(ended.status, 1 if ended.status == "failed" else 0, ended.error, ended.summary)

    @classmethod
    def failed(cls, error: str, exit_code: int = 1) -> Outcome:
        return cls("failed", exit_code, error)

    @classmethod
    def killed(cls) -> Outcome:
        return cls("killed", KILLED_CODE, "stopped at once, on request; nothing was saved")

    def and_failed(self, error: str) -> Outcome:
        """Something went wrong after it, too."""
        told = "\n".join(filter(None, [self.error, error]))
        return replace(self, status="failed", exit_code=self.exit_code or 1, error=told)

    def with_deaths(self, deaths: list[ProcessExit]) -> Outcome:
        return replace(self, deaths=tuple(deaths))

    def as_summary(self) -> dict[str, Any]:
        """What summary.json holds."""
        error = {"error": self.error} if self.error else {}
        return {**self.summary, **error, "status": self.status}

    def report(self, run_dir: Path) -> str:
        """The last words, after what took long. A process that failed on its way out is told of, though the run has
        ended well.
        """
        well = f"; all of it is in {run_dir}{best_of(self.summary)}"
        headline = f"rlx run {self.status}" + (f": {self.error}" if self.exit_code else well)
        parts = [slowest(self.summary), headline, *(death.report(self.error) for death in self.deaths)]
        return "\n\n".join(filter(None, parts))


def best_of(summary: Mapping[str, Any]) -> str:
    """Which version was the best, where the run looked for it."""
    best = summary.get("best")
    return (
        f"\nthe best version is that of step {best['step']}, with {best['metric']} = {best['value']:.4g}"
        if best
        else ""
    )


MOST = 10
LEAST_SECONDS = 0.5
LEAST_SHARE = 0.01
"""Of the run's time: what costs less is not shown."""


def slowest(summary: Mapping[str, Any]) -> str:
    """A table; empty where nothing cost enough to be told."""
    seconds = summary.get("seconds", 0.0)
    least = max(LEAST_SECONDS, LEAST_SHARE * seconds)
    costs = sorted(summary.get("costs", {}).items(), key=lambda item: -item[1]["seconds"])
    shown = [(name, cost) for name, cost in costs if cost["seconds"] >= least][:MOST]
    if not shown:
        return ""
    head = f"Slowest rewards and hooks (seconds, calls; all processes together, in a run of {seconds:.0f} s):"
    return "\n".join([head, *(f"{cost['seconds']:>10.2f} {cost['calls']:>9}  {name}" for name, cost in shown)])
