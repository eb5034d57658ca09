"""Names of metrics, keys of summary.json and files of a run directory change only on purpose, with metric_names.txt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NAMES = Path(__file__).with_name("metric_names.txt")


def names(run, mode):
    """Return every name that a run has written, with its mode and kind."""
    metrics = [f"{mode} {kind} {name}" for kind in ("train", "eval") for line in run.metrics(kind) for name in line]
    summary = [f"{mode} summary {name}" for name in run.summary]
    files = [f"{mode} file {path.name}" for path in run.dir.iterdir() if not path.name.startswith("ledger.sqlite-")]
    return sorted({*metrics, *summary, *files})


def test_names_that_users_depend_on_are_as_they_were(whole_run, warm_run):
    seen = [*names(whole_run, "rl"), *names(warm_run, "sft")]
    if os.environ.get("RLX_TEST_WRITE_NAMES"):
        NAMES.write_text("".join(f"{name}\n" for name in seen))
    assert seen == NAMES.read_text().splitlines()
