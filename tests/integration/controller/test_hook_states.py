"""Hooks plugins store their own state in checkpoints, and get it back when the run is resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rlx.controller.records import checkpoint
from rlx.plugins.catalog import discover
from rlx.plugins.resolve import resolve

COUNTER = """
import rlx

class Counter:
    \"\"\"Counts steps over all attempts of a run.\"\"\"

    def __init__(self):
        self.steps, self.restored = 0, False

    @rlx.hookimpl
    def rlx_run_start(self):
        self.started = True

    @rlx.hookimpl
    def rlx_step_end(self, step, metrics):
        self.steps += 1
        metrics["counted"] = float(self.steps)

    @rlx.hookimpl
    def rlx_checkpoint_state(self):
        return {"steps": self.steps, "text": "\u00fc", "nested": [{"x": None}]}

    @rlx.hookimpl
    def rlx_restore_state(self, state):
        assert self.started and not self.restored
        assert state["text"] == "\u00fc" and state["nested"] == [{"x": None}]
        self.steps, self.restored = state["steps"], True
"""
SILENT = """
import rlx

class Silent:
    @rlx.hookimpl
    def rlx_checkpoint_state(self):
        return None

    @rlx.hookimpl
    def rlx_restore_state(self, state):
        raise AssertionError("it has stored nothing")
"""


def hooks_at(folder: Path, reference: str, text: str):
    (folder / reference.partition(":")[0]).write_text(text)
    return resolve("hooks", f"./{reference}", discover(), folder)


@pytest.fixture
def counter(tmp_path):
    return hooks_at(tmp_path, "counter.py:Counter", COUNTER)


@pytest.mark.parametrize("rollouts", [True, False])
async def test_a_plugin_goes_on_from_its_state(make_run, counter, tmp_path, rollouts):
    silent = hooks_at(tmp_path, "silent.py:Silent", SILENT)
    options = {
        "rollouts": rollouts,
        "checkpoint": {"every": 2, "keep": 0},
        "plugins": {"enable": [counter.name, silent.name]},
        "records": [counter, silent],
    }
    first = make_run(steps=4, **options)
    assert (await first()).status == "done"
    folder = tmp_path / "checkpoints" / "step_00002"
    content = json.loads((folder / "hooks.json").read_text())
    (saved,) = content.values()
    assert list(content) == ["./counter.py:Counter"]
    assert saved["owner"].startswith("hooks plugin './counter.py:Counter' (")
    assert saved["state"] == {"steps": 2, "text": "\u00fc", "nested": [{"x": None}]}
    assert checkpoint.verify_checkpoint(folder) == []
    shutil.rmtree(tmp_path / "checkpoints" / "step_00004")
    second = make_run(steps=4, resume="checkpoints/step_00002", **options)
    ended = await second()
    assert ended.status == "done", ended.error
    assert [m.metrics["counted"] for m in second.metrics if m.kind == "train"] == [3, 4]


async def test_the_state_of_a_plugin_that_is_not_enabled_any_more_is_left_out_with_a_note(make_run, counter):
    first = make_run(steps=2, plugins={"enable": [counter.name]}, records=[counter])
    assert (await first()).status == "done"
    second = make_run(steps=4, resume="checkpoints/step_00002")
    assert (await second()).status == "done"
    (note,) = [line.text for line in second.logs if "state" in line.text]
    assert "'./counter.py:Counter'" in note
    assert "is not enabled any more: its state is left out" in note
    assert not (second.run_dir / "checkpoints" / "step_00004" / "hooks.json").exists()


async def test_a_plugin_without_a_state_in_the_checkpoint_begins_anew(make_run, counter):
    assert (await make_run(steps=2)()).status == "done"
    second = make_run(steps=4, resume="checkpoints/step_00002", plugins={"enable": [counter.name]}, records=[counter])
    ended = await second()
    assert ended.status == "done", ended.error
    assert [m.metrics["counted"] for m in second.metrics if m.kind == "train"] == [1, 2]


async def test_a_state_that_its_plugin_refuses_ends_the_run_before_its_first_step(make_run, counter, tmp_path):
    first = make_run(steps=2, plugins={"enable": [counter.name]}, records=[counter])
    assert (await first()).status == "done"
    file = tmp_path / "checkpoints" / "step_00002" / "hooks.json"
    file.write_text(file.read_text().replace('"text"', '"words"'))  # as another version of the plugin wrote it
    second = make_run(steps=4, resume="checkpoints/step_00002", plugins={"enable": [counter.name]}, records=[counter])
    ended = await second()
    assert ended.status == "failed"
    assert "its hook rlx_restore_state raised KeyError: 'text'" in ended.error
    assert second.policy.steps == []


async def test_a_run_that_goes_back_since_its_policy_died_gives_states_back(make_run, script, counter, monkeypatch):
    """Step 3 is counted once, although it is trained twice."""
    monkeypatch.setattr("rlx.controller.health.policy_restarts.PAUSE_SECONDS", 0.05)
    run = make_run(
        steps=5,
        checkpoint={"every": 2},
        plugins={"enable": [counter.name]},
        records=[counter],
        script=script(policy_dies=[3]),
    )
    ended = await run()
    assert ended.status == "done", ended.error
    assert ended.summary["policy/restarts"] == 1
    assert {m.step: m.metrics["counted"] for m in run.metrics if m.kind == "train"} == {
        step: step + 1 for step in range(5)
    }
