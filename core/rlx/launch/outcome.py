"""How a run ended, and the report of it that the user gets.

The report has, in this order: the rewards and hooks that took longest (as pytest's --durations), the plugins whose
hooks failed without ending the run, the dataset rows that were dropped, one line with the outcome, the processes that
failed, each with the exception that ended it (or the last lines of its log), and the command that continues the run.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rlx.controller.records.bad_rows import REASONS
from rlx.controller.records.checkpoint import newest, version_of
from rlx.errors import UsageError
from rlx.launchers.base import ProcessHandle
from rlx.logs import LAST_LINES, SEARCHED_LINES, USAGE_LINES, already_reported, first_exception
from rlx.names import SIGNAL_EXIT_CODE
from rlx.transport.messages import ProcessExited, RunEnded

KILLED_EXIT_CODE = 130
"""The exit code that shells give to a command ended by Ctrl-C."""
SHOWN_ROWS, SHOWN_CHARACTERS = 8, 200
"""Dropped rows that the report shows, and how much of the reason."""
SLOWEST_ROWS = 10
SLOWEST_MIN_SECONDS = 0.5
SLOWEST_MIN_SHARE = 0.01
"""Share of the run's time; rewards and hooks that took less are not listed."""


Summary = dict[str, Any]
"""The content of summary.json, as the controller made it (`rlx.controller.records.summary`)."""


@dataclass(frozen=True)
class ProcessExit:
    """The end of a process that ended early or with an error."""

    name: str
    code: int
    log: Path
    last_lines: list[str]
    attempt: int = 1
    cause: str = ""
    """The first exception at the end of its log, if there is one."""

    @classmethod
    def of(cls, process: ProcessHandle, code: int, attempt: int = 1) -> ProcessExit:
        lines = process.last_lines(SEARCHED_LINES)
        if code == UsageError.exit_code:
            return cls(process.name, code, process.log, lines[-USAGE_LINES:], attempt)
        return cls(process.name, code, process.log, lines[-LAST_LINES:], attempt, first_exception(lines))

    def message(self) -> ProcessExited:
        """Return the message that reports it to the controller."""
        return ProcessExited(self.name, self.code, self.last_lines, self.attempt, self.cause)

    def headline(self) -> str:
        if self.code > SIGNAL_EXIT_CODE:
            return f"{self.name} was killed by signal {self.code - SIGNAL_EXIT_CODE}"
        when = " before the run was over" if self.code == 0 else ""
        return f"{self.name} ended with exit code {self.code}{when}"

    def report(self, reported: str = "") -> str:
        """Return the headline, its cause, or else the last lines of its log; without what `reported` has already."""
        if already_reported([self.cause] if self.cause else self.last_lines, self.code, reported):
            return f"{self.headline()}. Its log: {self.log}"
        if self.cause:
            return f"{self.headline()}: {self.cause}\nIts log: {self.log}"
        lines = [f"    {line}" for line in self.last_lines] or ["    (nothing)"]
        return "\n".join([f"{self.headline()}. The last lines of {self.log}:", *lines])


@dataclass(frozen=True)
class Outcome:
    """The end of a run. `status` is the controller's (`done`, `stopped` ...), `failed`, or `killed`."""

    status: str
    exit_code: int
    error: str = ""
    summary: Summary = field(default_factory=dict)
    exits: tuple[ProcessExit, ...] = ()
    """The processes that failed."""

    @classmethod
    def from_controller(cls, ended: RunEnded) -> Outcome:
        return cls(ended.status, 1 if ended.status == "failed" else 0, ended.error, ended.summary)

    @classmethod
    def failed(cls, error: str, exit_code: int = 1) -> Outcome:
        return cls("failed", exit_code, error)

    @classmethod
    def killed(cls, reason: str) -> Outcome:
        """`reason`: the signal, in words."""
        summary = {"reason": reason}
        return cls("killed", KILLED_EXIT_CODE, "stopped at once, on request; nothing was saved", summary)

    def with_error(self, error: str) -> Outcome:
        """Return this outcome as failed, with an error that came after the run's own end."""
        errors = "\n".join(filter(None, [self.error, error]))
        return replace(self, status="failed", exit_code=self.exit_code or 1, error=errors)

    def with_exits(self, exits: list[ProcessExit]) -> Outcome:
        return replace(self, exits=tuple(exits))

    def as_summary(self) -> Summary:
        """Return the content of summary.json."""
        error = {"error": self.error} if self.error else {}
        return {**self.summary, **error, "status": self.status}

    def report(self, run_dir: Path) -> str:
        """Return the last message of the run. It also names processes that failed while they ended after a good run."""
        result = f": {self.error}" if self.exit_code else f"; all of it is in {run_dir}{best_version(self.summary)}"
        exits = [process_exit.report(self.error) for process_exit in self.exits]
        tables = [slowest_calls(self.summary), failed_hooks(self.summary), dropped_rows(self.summary)]
        # After a UsageError a resume would end in the same way.
        resumable = self.status != "done" and self.exit_code != UsageError.exit_code
        last = how_to_continue(run_dir, stopped=self.status == "stopped") if resumable else ""
        return "\n\n".join(filter(None, [*tables, f"rlx run {self.status}{result}", *exits, last]))


def how_to_continue(run_dir: Path, *, stopped: bool) -> str:
    """Return the last line of a run that is not done: the newest checkpoint, and the command that resumes from it.

    Without a checkpoint, "" unless the run was stopped: it had not trained a step then.
    """
    found = newest(run_dir)
    if found is None:
        return "It was stopped before its first step, so there is nothing to resume." if stopped else ""
    saved = f"Nothing is lost: step {version_of(found)} is saved" if stopped else f"Step {version_of(found)} is saved"
    return f"{saved}. Continue from there with: rlx run --resume {shlex.quote(str(run_dir))}"


def best_version(summary: Summary) -> str:
    """Return a line with the best version, or "" if the run did not look for it."""
    best = summary.get("best")
    if not best:
        return ""
    return f"\nthe best version is that of step {best['step']}, with {best['metric']} = {best['value']:.4g}"


def slowest_calls(summary: Summary) -> str:
    """Return a table of the rewards and hooks that took longest, or "" if none took long enough."""
    seconds = summary.get("seconds", 0.0)
    least = max(SLOWEST_MIN_SECONDS, SLOWEST_MIN_SHARE * seconds)
    timings = sorted(summary.get("costs", {}).items(), key=lambda item: -item[1]["seconds"])
    shown = [(name, timing) for name, timing in timings if timing["seconds"] >= least][:SLOWEST_ROWS]
    if not shown:
        return ""
    head = f"Slowest rewards and hooks (seconds, calls; all processes together, in a run of {seconds:.0f} s):"
    return "\n".join([head, *(f"{timing['seconds']:>10.2f} {timing['calls']:>9}  {name}" for name, timing in shown)])


def failed_hooks(summary: Summary) -> str:
    """Return a table of the plugins in `[plugins] best_effort` whose hooks failed, or "" if none did."""
    failed = sorted(summary.get("hooks_failed", {}).items(), key=lambda item: -item[1])
    if not failed:
        return ""
    head = "Failures of hooks in [plugins] best_effort (all processes together; the logs say why):"
    return "\n".join([head, *(f"{count:>10}  {plugin}" for plugin, count in failed)])


def dropped_rows(summary: Summary) -> str:
    """Return a table of the dataset rows that were dropped because they can't be used, or "" if none was."""
    named, count = summary.get("bad_rows", []), summary.get("rows/dropped", 0)
    if not named:
        return ""
    prefix = "rows/dropped/"
    counts = {name.removeprefix(prefix): value for name, value in summary.items() if name.startswith(prefix)}
    reasons = ", ".join(f"{value:,} {REASONS[reason]}" for reason, value in counts.items())
    head = f"Training rows that were dropped ([dataset] on_bad_row): {count:,}{f': {reasons}' if reasons else ''}."
    lines = [
        f"  row {row['row']} of [{row['dataset']}] ({REASONS[row['reason']]}): {_first_line(row['why'])}"
        for row in named[:SHOWN_ROWS]
    ]
    more = len(named) - SHOWN_ROWS
    return "\n".join([head, *lines, *([f"  and {more} more that summary.json names"] if more > 0 else [])])


def _first_line(text: str) -> str:
    """Return the first line of a text, cut to a width that a terminal shows."""
    line = text.splitlines()[0] if text else ""
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}..."
