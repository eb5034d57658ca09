"""Weights that do not arrive as they are: the run stops, and says which engine, what was allowed and what was seen."""

from __future__ import annotations

import re

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.mark.parametrize("mapper", ["stale", "forgetful"])
def test_wrong_weights_end_the_run(start, warm, quick_engine, mapper):
    run = start("rl", warm, **{"model.plugin": f"./parts.py:{mapper}", **quick_engine})
    assert run.wait() == 1, run.output
    said = re.search(r"(rollout-0) does not hold the policy's weights of version 1: on (\d+) tokens .* by (\S+) on "
                     r"average, and (\S+) is allowed", run.output)  # fmt: skip
    assert said, run.output
    assert int(said[2]) > 10
    assert float(said[3]) > float(said[4]) == 1e-4
    assert run.summary["status"] == "failed"
    assert said[0] in run.summary["error"]
    assert [line["step"] for line in run.metrics()] == []
    assert not run.survivors()
