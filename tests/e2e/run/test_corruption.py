"""Weights that do not arrive in an engine: the run stops, and names the engine and the difference."""

from __future__ import annotations

import re

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def failed_output(run):
    """Assert that a run failed before it trained on wrong samples, and return its output."""
    assert run.wait() == 1, run.output
    assert run.summary["status"] == "failed"
    assert run.summary["error"].splitlines()[0] in run.output
    assert not list(run.dir.glob("trajectories/step_00001*"))
    assert not run.survivors()
    return run.output


def test_an_outdated_tensor_is_detected(start, warm, quick_engine):
    output = failed_output(start("rl", warm, **{"model.plugin": "./parts.py:stale", **quick_engine}))
    message = re.search(
        r"rollout-0 does not hold the policy's weights of version 1: on (\d+) tokens its log-probabilities differ from "
        r"the policy's by (\S+) on average, and (\S+) is allowed",
        output,
    )
    assert message, output
    assert int(message[1]) > 10
    assert float(message[2]) > float(message[3]) == 1e-4


def test_a_missing_tensor_is_detected(start, warm, quick_engine):
    output = failed_output(start("rl", warm, **{"model.plugin": "./parts.py:forgetful", **quick_engine}))
    assert re.search(r"rollout-0: .*left out parameters of the engine: model\.layers\.1\.mlp\.gate_up_proj", output)
    assert "49152 of 98304" in output
