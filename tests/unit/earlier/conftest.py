"""Directories of runs that have ended, made by hand: no process and no torch."""

from __future__ import annotations

import json

import msgspec
import pytest

from rlx.config.schema import Config
from rlx.controller.records.checkpoint import SavedState
from rlx.fingerprint import Fingerprint


@pytest.fixture
def ended(tmp_path):
    """`ended([2, 4], accuracies={2: 0.5}, **tables)`: the directory of a run with checkpoints of these steps."""

    def make(steps, accuracies=None, **tables):
        run, started = tmp_path / "run", tmp_path / "started"
        run.mkdir()
        started.mkdir()
        minimal = {"model": {"path": "tiny"}, "dataset": {"name": "arithmetic"}, **tables}
        config = Config.model_validate(minimal).model_dump(by_alias=True, mode="json")
        (run / "config.json").write_text(json.dumps(config))
        environment = {"folder": str(started), "base_dir": str(started), "script": None}
        (run / "environment.json").write_text(json.dumps(environment))
        (run / "lock").write_text("process 1234 on host\n")
        evaluations = [{"step": float(step), "eval/accuracy": value} for step, value in (accuracies or {}).items()]
        for step in steps:
            folder = run / "checkpoints" / f"step_{step:05d}"
            folder.mkdir(parents=True)
            seen = [evaluation for evaluation in evaluations if evaluation["step"] <= step]
            state = SavedState(step, 0, 1, Fingerprint(1, []), 0, 0.0, seen)
            (folder / "controller.json").write_bytes(msgspec.json.encode(state))
        (run / "checkpoints" / "step_00099.tmp").mkdir(parents=True)
        return run

    return make
