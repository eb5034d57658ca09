from __future__ import annotations

from pathlib import Path

import pytest

from rlx.launch.outcome import Outcome, dropped_rows, failed_hooks, slowest_calls
from rlx.transport.messages import RunEnded


def summary(seconds, **costs):
    return {"seconds": seconds, "costs": {name: {"seconds": cost, "calls": 7} for name, cost in costs.items()}}


def test_the_slowest_calls_come_first_with_seconds_and_counts():
    costs = {
        "reward/judge": {"seconds": 12.3456, "calls": 4800},
        "hook/w&b/rlx_step_end": {"seconds": 130, "calls": 30},
    }
    assert slowest_calls({"seconds": 312.4, "costs": costs}).splitlines() == [
        "Slowest rewards and hooks (seconds, calls; all processes together, in a run of 312 s):",
        "    130.00        30  hook/w&b/rlx_step_end",
        "     12.35      4800  reward/judge",
    ]


@pytest.mark.parametrize(
    ("seconds", "cost", "shown"),
    [(10.0, 0.49, False), (10.0, 0.5, True), (1000.0, 9.9, False), (1000.0, 10.0, True), (0.0, 0.5, True)],
)
def test_negligible_calls_are_not_shown(seconds, cost, shown):
    assert bool(slowest_calls(summary(seconds, a=cost))) is shown


def test_at_most_ten_calls_are_shown():
    lines = slowest_calls(summary(10.0, **{f"r{number}": float(number) for number in range(1, 15)})).splitlines()
    assert [line.split()[-1] for line in lines[1:]] == [f"r{number}" for number in range(14, 4, -1)]


@pytest.mark.parametrize("found", [{}, {"seconds": 3.0}, {"seconds": 3.0, "costs": {}}])
def test_a_run_that_ended_without_timings_has_no_table(found):
    assert slowest_calls(found) == ""


def test_the_report_has_the_table_before_the_outcome():
    ended = Outcome.from_controller(RunEnded("done", summary(10.0, judge=2.0)))
    assert ended.report(Path("/r")).splitlines()[1:] == [
        "      2.00         7  judge",
        "",
        "rlx run done; all of it is in /r",
    ]


def test_plugins_with_failed_hooks_are_listed_with_counts(tmp_path):
    ended = RunEnded("done", {"hooks_failed": {"./h.py:A": 2, "b": 30}})
    table = [
        "Failures of hooks in [plugins] best_effort (all processes together; the logs say why):",
        "        30  b",
        "         2  ./h.py:A",
    ]
    assert failed_hooks(ended.summary).splitlines() == table
    assert Outcome.from_controller(ended).report(tmp_path).splitlines()[:4] == [*table, ""]
    assert failed_hooks({}) == failed_hooks({"hooks_failed": {}}) == ""


def test_dropped_rows_are_listed_with_their_reasons(tmp_path):
    rows = [
        {"dataset": "dataset", "row": 7, "reason": "too_long", "why": "row 7 has 900 tokens"},
        {"dataset": "eval.dataset", "row": 0, "reason": "dataset", "why": "raised\nKeyError"},
    ]
    counts = {"rows/dropped": 1203, "rows/dropped/too_long": 1200, "rows/dropped/untrained": 3}
    ended = RunEnded("done", {**counts, "bad_rows": rows})
    table = [
        "Training rows that were dropped ([dataset] on_bad_row): 1,203: 1,200 too long, 3 without a token to train on.",
        "  row 7 of [dataset] (too long): row 7 has 900 tokens",
        "  row 0 of [eval.dataset] (the dataset raised): raised",
    ]
    assert dropped_rows(ended.summary).splitlines() == table
    assert Outcome.from_controller(ended).report(tmp_path).splitlines()[:4] == [*table, ""]
    assert "and 2 more that summary.json names" in dropped_rows({**counts, "bad_rows": rows[:1] * 10})
    assert dropped_rows({}) == dropped_rows({"rows/dropped": 0, "bad_rows": []}) == ""
