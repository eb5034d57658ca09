"""Supervised fine-tuning, and what only needs the policy to be seen: deaths, signals, a full disk."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_learns_and_exports(warm_run):
    assert warm_run.process.returncode == 0, warm_run.output
    losses = [line["loss"] for line in warm_run.metrics()]
    assert len(losses) == 8
    assert losses[-1] < 0.8 * losses[0]
    assert warm_run.summary["status"] == "done"
    assert warm_run.summary["steps"] == 8
    assert {path.name for path in warm_run.dir.joinpath("logs").glob("*.log")} == {"controller.log", "policy.log"}
    assert not warm_run.survivors()
