"""`rlx plugins check [DIST]`: import each component in a process of its own, and check its contract.

Exit code 2 if one can't be imported or breaks a rule.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rlx.errors import PluginError, RlxError, did_you_mean
from rlx.plugins.catalog import Catalog, Entry, discover
from rlx.plugins.resolve import resolve
from rlx.terminal import visible
from rlx.testing.probe import Report, probe
from rlx_cli.messages import say_note
from rlx_cli.plugins import hidden_command, notes, row_of

LABELS = ("kind", "name", "distribution", "version", "import")


def check_plugins_command(dist: str | None, *, timeout_seconds: float, as_json: bool, traceback: bool) -> int:
    """Check the plugins, print the results, and return the exit code."""
    catalog = discover()
    entries = _chosen(catalog, dist)
    reports = ((entry, _report(entry, catalog, timeout_seconds)) for entry in entries)
    fine = True
    rows = []
    for entry, report in reports if as_json else _shown(entries, reports, traceback=traceback):
        fine &= report.ok
        rows.append(_row(entry, report))
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    for note in notes(catalog, dist):
        fine = fine and dist is None  # whoever asks about one distribution wants all of it to work
        say_note(note)
    return 0 if fine else 2


def _chosen(catalog: Catalog, dist: str | None) -> Sequence[Entry]:
    known = sorted({entry.dist for entry in catalog.entries} | {group.dist for group in catalog.misnamed})
    if dist is not None and dist not in known:
        hint = did_you_mean(dist, known)
        raise PluginError(
            f"No installed distribution {dist!r} offers plugins.{hint} Those that do: {', '.join(known)}."
        )
    return [entry for entry in catalog.entries if dist in (None, entry.dist)]


def _report(entry: Entry, catalog: Catalog, timeout_seconds: float) -> Report:
    if hidden_command(entry):
        return Report(error=f"`rlx {entry.name}` is rlx's own command, so this one can't be called")
    try:
        record = resolve(entry.kind, entry.qualified, catalog, Path())
    except RlxError as error:
        return Report(error=str(error))
    return probe(record, contract=True, timeout_seconds=timeout_seconds)


def _shown(
    entries: Sequence[Entry], reports: Iterator[tuple[Entry, Report]], *, traceback: bool
) -> Iterator[tuple[Entry, Report]]:
    """Print each line as soon as it is known, and yield its report."""
    cells = [LABELS, *((e.kind, e.name, e.dist, e.version, "") for e in entries)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    _print(LABELS, widths, "result")
    for entry, report in reports:
        seconds = f"{report.import_seconds:.2f} s" if report.import_seconds is not None else ""
        _print((entry.kind, entry.name, entry.dist, entry.version, seconds), widths, _verdict(report))
        text = report.error or report.broken or report.untested
        for line in [*(report.traceback.splitlines() if traceback else ()), *text.splitlines()]:
            sys.stdout.write(f"    {visible(line)}\n")
        yield entry, report


def _print(cells: Sequence[str], widths: Sequence[int], result: str) -> None:
    sys.stdout.write("  ".join([*(visible(c).ljust(w) for c, w in zip(cells, widths, strict=True)), result]) + "\n")
    sys.stdout.flush()


def _verdict(report: Report) -> str:
    if report.error:
        return "FAILS"
    return "BROKEN" if report.broken else "not tested" if report.untested else "fine"


def _row(entry: Entry, report: Report) -> dict[str, object]:
    keys = ("error", "traceback", "import_seconds", "broken", "untested")
    return {**row_of(entry), "result": _verdict(report).lower(), **{key: getattr(report, key) for key in keys}}
