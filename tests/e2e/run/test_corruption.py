"""Weights that do not arrive as they are: the run stops, and says which engine, what was expected and what was seen."""

from __future__ import annotations

import re

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def failed(run):
    """What a user reads of a run that must have failed before it had trained on wrong samples."""
    assert run.wait() == 1, run.output
    assert run.summary["status"] == "failed"
    assert run.summary["error"].splitlines()[0] in run.output
    assert not list(run.dir.glob("trajectories/step_00001*"))
    assert not run.survivors()
    return run.output


def test_a_tensor_that_stays_as_it_was(start, warm, quick_engine):
    output = failed(start("rl", warm, **{"model.plugin": "./parts.py:stale", **quick_engine}))
    said = re.search(
        r"rollout-0 does not hold the policy's weights of version 1: on (\d+) tokens its log-probabilities differ from "
        r"the policy's by (\S+) on average, and (\S+) is allowed",
        output,
    )
    assert said, output
    assert int(said[1]) > 10
    assert float(said[2]) > float(said[3]) == 1e-4


def test_a_tensor_that_is_left_out(start, warm, quick_engine):
    output = failed(start("rl", warm, **{"model.plugin": "./parts.py:forgetful", **quick_engine}))
    assert re.search(r"rollout-0: .*left out parameters of the engine: model\.layers\.1\.mlp\.gate_up_proj", output)
    assert "49152 of 98304" in output
