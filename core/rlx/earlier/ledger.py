"""`inspect_ledger(run_dir)`: count the groups of a run by state, and check what has to be true of them.

It only reads, so it may be used while the run goes on.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rlx.config.schema import Config
from rlx.controller.groups.ledger import VERSION, LedgerRow, read_rows
from rlx.controller.groups.resume import open_groups
from rlx.controller.records import checkpoint
from rlx.controller.records.checkpoint import SavedState
from rlx.errors import RunError, UsageError
from rlx.launch.run_dir import locked
from rlx.names import CONFIG_FILE, LEDGER_FILE
from rlx.preflight.load import load_earlier

STATES = ("leased", "finished", "trained", "dropped")
_SHOWN = 5
"""Groups that a violation names."""


@dataclass(frozen=True)
class LedgerReport:
    """The state of a ledger."""

    running: bool
    """Whether the run goes on: the counts are those of one moment."""
    counts: dict[str, int]
    """State -> groups."""
    restored: int
    """Groups among the trained ones of which only a checkpoint knew that they are trained or dropped."""
    stored: int
    """Groups whose episodes are stored."""
    frontier: int
    """The first id that was never leased."""
    checkpoints: dict[int, str]
    """Step of each checkpoint -> why it is not sound with this ledger; "" if it is."""
    violations: list[str]
    """A line for each invariant that does not hold, beginning with its name."""


def inspect_ledger(run_dir: Path) -> LedgerReport:
    """Read the ledger of a run, and check it. Raises UsageError if there is none to read."""
    if not (run_dir / CONFIG_FILE).exists():
        raise UsageError(f"{run_dir} isn't a run directory: it has no {CONFIG_FILE}.")
    path = run_dir / LEDGER_FILE
    if not path.exists():
        raise UsageError(f"{run_dir} has no ledger: the run is an SFT run, or ended before it began.")
    config = load_earlier(run_dir).config
    running = _is_running(run_dir)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as reader:
            reader.execute("BEGIN")  # all that follows is of one moment
            found = reader.execute("PRAGMA user_version").fetchone()[0]
            if found != VERSION:
                return _unreadable(f"format: the file has format {found}, and this rlx reads format {VERSION}", running)
            problem = reader.execute("PRAGMA integrity_check(1)").fetchone()[0]
            rows = read_rows(reader)
            payloads = {row[0] for row in reader.execute("SELECT group_id FROM payloads")}
    except sqlite3.Error as error:
        return _unreadable(f"file: it cannot be read: {error}", running)
    violations = [] if problem == "ok" else [f"file: it is damaged: {problem}"]
    violations += _violations(rows, payloads, config, running=running)
    checkpoints = {}
    for folder in checkpoint.committed(run_dir):
        version = checkpoint.version_of(folder)
        checkpoints[version] = why = _against(folder, rows)
        if why:
            violations.append(f"checkpoint of step {version}: {why}")
    counts = Counter[str](row.state for row in rows)
    return LedgerReport(
        running=running,
        counts={state: counts[state] for state in STATES},
        restored=sum(row.state == "trained" and row.step is None for row in rows),
        stored=len(payloads),
        frontier=_frontier(rows),
        checkpoints=checkpoints,
        violations=violations,
    )


def _unreadable(why: str, running: bool) -> LedgerReport:
    return LedgerReport(running, dict.fromkeys(STATES, 0), 0, 0, 0, {}, [why])


def _is_running(run_dir: Path) -> bool:
    try:
        with locked(run_dir):
            return False
    except UsageError:
        return True


def _frontier(rows: Sequence[LedgerRow]) -> int:
    return rows[-1].group_id + 1 if rows else 0


def _violations(rows: Sequence[LedgerRow], payloads: set[int], config: Config, *, running: bool) -> Iterator[str]:
    """Yield a line for each invariant of a single ledger that does not hold."""
    k, size = config.asynchrony.max_staleness, config.policy.groups_per_step
    trained = [row for row in rows if row.state == "trained" and row.step is not None]
    missing = sorted(set(range(_frontier(rows))) - {row.group_id for row in rows})
    shapes = [row.group_id for row in rows if not _is_whole(row)]
    ages = [row.group_id for row in trained if not row.lease_version <= (row.step or 0) <= row.lease_version + k]
    future = [row.group_id for row in trained if row.newest_version is None or row.newest_version > (row.step or 0)]
    kept = {row.group_id for row in rows if row.state in {"finished", "trained"}}
    found = {
        "ids: every id below the frontier has a group": missing,
        "states: a group has the fields of its state": shapes,
        f"age: a step trains groups leased at most {k} versions before (async.max_staleness)": ages,
        "versions: a step trains tokens of earlier weights only": future,
        "episodes: they are stored for finished and trained groups only": sorted(payloads - kept),
    }
    yield from (f"{rule}: not so for {_listed(ids)}" for rule, ids in found.items() if ids)
    sizes = Counter(row.step for row in trained)
    newest = max((row.step or 0 for row in trained), default=-1)
    restored = any(row.state == "trained" and row.step is None for row in rows)
    for step in range(newest + 1):
        fewer_expected = restored or (running and step == newest)
        if sizes[step] > size or (sizes[step] < size and not fewer_expected):
            yield f"steps: each step trains {size} groups (policy.groups_per_step): step {step} has {sizes[step]}"


def _is_whole(row: LedgerRow) -> bool:
    """Whether a group has the fields of its state, in order."""
    if row.state in {"leased", "dropped"}:
        return row.step is None and row.newest_version is None and (row.why is not None) == (row.state == "dropped")
    if row.state == "trained" and row.step is None:
        return row.why is not None  # restored from a checkpoint
    sampled = row.oldest_version is not None and row.newest_version is not None
    in_order = sampled and row.lease_version <= (row.oldest_version or 0) <= (row.newest_version or 0)
    return in_order and (row.step is not None) == (row.state == "trained")


def _against(folder: Path, rows: Sequence[LedgerRow]) -> str:
    """Return why a checkpoint does not agree with the ledger; "" if it does."""
    try:
        saved: SavedState = checkpoint.load(folder)
        if saved.untrained is None:
            return ""  # of an earlier version of rlx: it says nothing about groups
        untrained = open_groups(saved)
    except RunError as error:
        return str(error)
    restored = {row.group_id for row in rows if row.state == "trained" and row.step is None}
    trained = {row.group_id for row in rows if row.state == "trained" and (row.step or 0) < saved.version} - restored
    closed = trained | restored | {row.group_id for row in rows if row.state == "dropped"}
    if twice := sorted(trained & untrained):
        return f"by the ledger, steps before it have trained what it has not: {_listed(twice)}"
    if lacking := sorted(set(range(saved.next_group_id)) - untrained - closed):
        return (
            f"the ledger is older: it lacks {_listed(lacking)}, which the checkpoint has closed. A resume restores it"
        )
    return ""


def _listed(ids: Sequence[int]) -> str:
    """Return the number of groups and the first ids."""
    more = ", ..." if len(ids) > _SHOWN else ""
    return f"{len(ids)} group{'' if len(ids) == 1 else 's'}: {', '.join(map(str, ids[:_SHOWN]))}{more}"


def as_json(report: LedgerReport) -> str:
    """Return the report for programs."""
    return json.dumps(
        {
            "running": report.running,
            "groups": report.counts,
            "restored": report.restored,
            "stored": report.stored,
            "frontier": report.frontier,
            "checkpoints": [{"step": step, "problem": why or None} for step, why in report.checkpoints.items()],
            "violations": report.violations,
        },
        indent=2,
    )
