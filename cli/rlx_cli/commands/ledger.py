"""`rlx ledger`: the groups of a run by state, and whether its ledger is sound."""

from __future__ import annotations

import sys
from pathlib import Path

from rlx.earlier.ledger import LedgerReport, as_json, inspect_ledger


def ledger_command(run_dir: Path, *, json: bool) -> int:
    """Print the report; return 1 if an invariant does not hold."""
    report = inspect_ledger(run_dir)
    sys.stdout.write((as_json(report) if json else "\n".join(_lines(report))) + "\n")
    return 1 if report.violations else 0


def _lines(report: LedgerReport) -> list[str]:
    counts = [*report.counts.items(), ("restored", report.restored), ("stored", report.stored)]
    lines = ["the run goes on: this is a snapshot"] if report.running else []
    lines += [f"{name:<10} {count:>8,}" for name, count in (*counts, ("frontier", report.frontier))]
    lines += [f"checkpoint of step {step}: {'not ' if why else ''}sound" for step, why in report.checkpoints.items()]
    lines += [f"violated: {line}" for line in report.violations]
    return lines if report.violations else [*lines, "all invariants hold"]
