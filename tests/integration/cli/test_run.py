"""The arguments with which `rlx run` calls `rlx.launch.run`, whose own tests are in tests/integration/launch."""

from __future__ import annotations

import json

import msgspec
import pytest

from rlx.controller.records.checkpoint import SavedState
from rlx.fingerprint import Fingerprint
from rlx.launch.run_dir import make_run_dir


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


def test_check_of_a_resume_lists_what_changes_and_what_is_refused(call, project, started, tmp_path):
    config = project()
    call("run", "--config", config)
    run_dir = tmp_path / "earlier"
    run_dir.mkdir()
    stored = started[0][0].config.model_dump(by_alias=True, mode="json")
    (run_dir / "config.json").write_text(json.dumps(stored))
    (run_dir / "environment.json").write_text(json.dumps({"base_dir": str(config.parent)}))
    code, out, err = call("check", "--resume", run_dir, "--set", "checkpoint.every=7")
    assert code == 0, err
    assert "no checkpoint yet: starts over from step 0\n" in out
    assert "changed: checkpoint.every from " in out
    assert f"{run_dir} is fine." in out.replace("\n", " ")
    folder = run_dir / "checkpoints" / "step_00001"
    folder.mkdir(parents=True)
    saved = SavedState(1, 0, 1, Fingerprint(1, ["f"]), 0, 0.0, config=stored)
    (folder / "controller.json").write_bytes(msgspec.json.encode(saved))
    code, out, err = call("check", "--resume", run_dir, "--set", "rollout.replicas=2", "--set", "run.steps=4")
    assert code == 0, err
    assert "continues from checkpoints/step_00001: step 1 of 4\n" in out
    assert "changed: rollout.replicas from 1 to 2: the run continues as it would have without the change\n" in out
    code, _, err = call("check", "--resume", run_dir, "--set", "run.seed=9", "--set", "policy.optimizer.lr=1")
    assert code == 2
    assert "run.seed: every random choice of the run comes from it" in err
    assert "policy.optimizer.lr: the optimizer's moments belong to it" in err
    (folder / "controller.json").write_text("{")
    code, _, err = call("check", "--resume", run_dir)
    assert code == 2
    assert "each of its checkpoints is damaged" in err
    for wrong in ((), (config, "--resume", run_dir)):
        code, _, err = call("check", *wrong)
        assert code == 2
        assert "Say what to check: rlx check X.toml [SCRIPT.py], or rlx check --resume RUN_DIR." in err


@pytest.mark.parametrize("by", ["option", "config"])
def test_resume_auto_starts_the_run_of_a_config_or_continues_it(call, project, started, tmp_path, by):
    config, option = project(), ("--resume", "auto")
    if by == "config":
        config.write_text(config.read_text().replace("steps = 2", 'steps = 2\nresume = "auto"'))
        option = ()
    for where in ((), ("--run-dir", tmp_path / "here")):
        code, _, err = call("run", "--config", config, *option, *where)
        assert code == 7, err
    assert [(arguments["auto"], arguments["resume"]) for _, arguments in started] == [(True, None)] * 2
    assert started[1][1]["run_dir"] == tmp_path / "here"
    code, _, err = call("run", "--resume", "auto")
    assert (code, len(started)) == (2, 2)
    assert "--resume auto needs --config X.toml" in err


def test_a_directory_in_use_is_refused_before_anything_is_tried(call, project, started, tmp_path):
    config = project()
    config.write_text(config.read_text().replace('name = "', 'name = "not_a_dataset_', 1))
    directory = make_run_dir(tmp_path, "job")
    for option in ("auto", "none"):
        resume = ("--resume", "auto") if option == "auto" else ()
        code, _, err = call("run", "--config", config, *resume, "--run-dir", directory.path)
        assert code == 2
        assert "is the directory of a run that is still going on" in err
        assert "not_a_dataset" not in err
    directory.close()


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
