"""Every architecture of architectures.py: policy against transformers, and a vLLM engine against the policy.

`make test-long` runs it: about half an hour on two idle cores. The table of docs/models.md is what it measures.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CONFIGS = runpy.run_path(str(Path(__file__).with_name("architectures.py")))["CONFIGS"]
SECONDS = 300
"""For one architecture. Most of it is the start of an engine, which a busy machine slows down."""
REFUSED = {
    "qwen2 (max_window_layers of 1)": "some layers",
    "gpt_oss": "past the reload",
    "lfm2": "other log-probabilities",
    "qwen3_next": "in bfloat16 only",
    "qwen3_5_text": "in bfloat16 only",
}
"""Part of the reason by which `rlx check` refuses RL."""
STOPPED = {"qwen3 (head size 16)": "head_dim=16"}
"""Part of the message by which an engine ends that `rlx check`, which asks vLLM itself, refuses."""
ENGINE_TOLERANCES = {
    "deepseek_v3 (rlx-plugin-deepseek)": 0.5,  # seen: 0.26, and 0.05 on average
    "apertus": 1e-2,  # seen: 2e-3, and 4e-4 on average
    "bloom": 1e-3,  # vLLM computes GELU exactly, transformers by an approximation
}

pytestmark = pytest.mark.timeout(SECONDS)


@pytest.fixture(scope="module")
def rows() -> Iterator[Iterator[dict]]:
    """The rows of the table, in order, as they are measured."""
    command = [sys.executable, "-u", str(Path(__file__).with_name("matrix.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as matrix:
        assert matrix.stdout is not None
        yield (json.loads(line) for line in matrix.stdout if line.startswith("{"))
        matrix.terminate()


@pytest.mark.parametrize("name", CONFIGS)
def test_policy_and_engine_compute_what_transformers_does(rows, name):
    row = next(rows)
    assert row["name"] == name
    assert row["trained"] <= 1e-5
    assert row["policy"] <= 1e-5
    assert row["moved"] > 0.1
    assert REFUSED.get(name, "") in row["refusal"]
    assert STOPPED.get(name, "") in row["failure"]
    if name not in {*REFUSED, *STOPPED}:
        assert row["refusal"] == row["failure"] == ""
        assert row["engine"] <= ENGINE_TOLERANCES.get(name, 1e-5)
