from __future__ import annotations

import json
import re

import msgspec
import pytest

from rlx.config.schema import Config
from rlx.controller.records.checkpoint import SavedState
from rlx.errors import UsageError
from rlx.fingerprint import Fingerprint
from rlx.launch.changes import check_steps, check_unchanged, record_changes
from rlx.launch.run_dir import RunDir


def config(**run):
    return Config.model_validate({"model": {"path": "m"}, "dataset": {"name": "d"}, "run": run})


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of step 12."""
    state = SavedState(12, 0, 1, Fingerprint(1, []), 0, 0.0)
    (tmp_path / "controller.json").write_bytes(msgspec.json.encode(state))
    return tmp_path


def test_a_run_does_not_go_back(checkpoint):
    check_steps(config(steps=12), checkpoint)
    with pytest.raises(UsageError, match=r"steps = 11: the run has made 12 steps .*rlx export --step 11"):
        check_steps(config(steps=11), checkpoint)


def test_each_resume_that_changes_keys_adds_a_line(checkpoint, tmp_path):
    run_dir, said = RunDir(tmp_path, False, -1), []
    for steps in (40, 40, 60, 20):
        if steps != 40 or (tmp_path / "config.json").exists():
            record_changes(run_dir, config(steps=steps), checkpoint, said.append)
        run_dir.write_json("config.json", config(steps=steps).model_dump(by_alias=True, mode="json"))
    lines = [json.loads(line) for line in (tmp_path / "changes.jsonl").read_text().splitlines()]
    assert [(line["step"], line["changes"]) for line in lines] == [
        (12, {"run.steps": [40, 60]}),
        (12, {"run.steps": [60, 20]}),
    ]
    assert said[0] == "changed: run.steps from 40 to 60: more or fewer steps; with a constant learning rate only"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("async.max_staleness", 1), ("algorithm.group_size", 4), ("policy.groups_per_step", 2), ("run.seed", 7),
        ("dataset.shuffle", False), ("dataset.name", "e"), ("policy.optimizer.lr", 0.5),
    ],
)  # fmt: skip
def test_an_edited_config_is_refused_by_key(tmp_path, key, value):
    before = config().model_dump(by_alias=True, mode="json")
    state = SavedState(12, 0, 1, Fingerprint(1, []), 0, 0.0, config=before)
    (tmp_path / "controller.json").write_bytes(msgspec.json.encode(state))
    check_unchanged(config(steps=40), tmp_path, "config.json")
    table = after = json.loads(json.dumps(before))
    *path, last = key.split(".")
    for part in path:
        table = table[part]
    was, table[last] = table[last], value
    assert was != value
    with pytest.raises(UsageError, match=re.escape(f"  {key}: ") + ".*" + re.escape(f"(it was {json.dumps(was)})")):
        check_unchanged(Config.model_validate(after), tmp_path, "config.json")
