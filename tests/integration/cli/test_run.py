"""The arguments with which `rlx run` calls `rlx.launch.run`, whose own tests are in tests/integration/launch."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def started(monkeypatch):
    """The plans with which `rlx.launch.run` was called, each with its other arguments. Each returns 7."""
    calls = []
    monkeypatch.setattr("rlx.launch.run.run", lambda plan, **arguments: calls.append((plan, arguments)) or 7)
    return calls


def test_a_run_starts_a_checked_plan_and_exits_with_its_code(call, project, started, tmp_path):
    config = project()
    code, _, _ = call("run", "--config", config, "--run-dir", tmp_path / "here", "--set", "run.seed=5")
    ((plan, arguments),) = started
    assert code == 7
    assert (plan.config.run.seed, plan.config.model.plugin, plan.rollouts) == (5, "hf", True)
    assert (arguments["run_dir"], arguments["resume"], plan.base_dir) == (tmp_path / "here", None, config.parent)
    assert [record.name for record in plan.plugins.records if record.kind == "rewards"] == ["./data.py:score"]
    assert arguments["argv"][:2] == ["rlx", "run"]


def test_a_resumed_run_finds_config_and_files_through_the_run_directory(call, project, started, tmp_path, monkeypatch):
    config = project()
    call("run", "--config", config)
    run_dir = tmp_path / "earlier"
    run_dir.mkdir()
    (run_dir / "config.json").write_text(json.dumps(started[0][0].config.model_dump(by_alias=True, mode="json")))
    (run_dir / "environment.json").write_text(json.dumps({"base_dir": str(config.parent)}))
    config.unlink()
    monkeypatch.chdir(tmp_path)
    code, _, err = call("run", "--resume", run_dir)
    assert code == 7, err
    (first, _), (resumed, arguments) = started
    assert arguments["resume"] == run_dir
    assert resumed.config == first.config
    assert resumed.base_dir == config.parent


def test_epochs_are_converted_to_steps(call, project, started):
    config = project()
    config.write_text(config.read_text().replace("steps = 2", "epochs = 3"))
    call("run", "--config", config, "--set", "policy.groups_per_step=1")
    ((plan, _),) = started
    assert (plan.config.run.steps, plan.config.run.epochs) == (3 * plan.data.train.size, None)


def test_a_new_config_passes_the_check_at_once(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("models", "make-tiny", "tiny", "--layers", 1, "--chat")[0] == 0
    (tmp_path / "rows.jsonl").write_text('{"question": "1+1=", "answer": "2"}\n' * 40)
    assert call("init", "--model", "tiny", "--dataset", "rows.jsonl", "--output", "x.toml")[0] == 0
    code, out, err = call("check", "x.toml")
    assert code == 0, err
    assert "38 rows, 2 to evaluate" in out
