from __future__ import annotations

import json
from importlib import metadata

import pytest


def test_schema_has_the_keys_of_the_file(rlx):
    code, out, _ = rlx("schema")
    schema = json.loads(out)
    assert code == 0
    assert {"run", "model", "async", "rewards"} <= set(schema["properties"])
    assert schema["$defs"]["RolloutConfig"]["properties"]["replicas"]["description"] == "Engines."
    assert schema["additionalProperties"] is False


def test_an_error_message_is_shown_verbatim_without_a_traceback(rlx, tmp_path):
    code, _, err = rlx("check", tmp_path / "[bold]absent[/bold].toml")
    assert code == 2
    assert "[bold]absent[/bold].toml" in err
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_traceback_option_shows_the_traceback(rlx, tmp_path):
    code, _, err = rlx("check", tmp_path / "absent.toml", "--traceback")
    assert code == 2
    assert "Traceback" in err


def test_an_unexpected_exception_is_shown_with_its_traceback(rlx, monkeypatch):
    def raise_unexpected(**_):
        raise KeyError("unforeseen")

    monkeypatch.setattr("rlx_cli.plugins.plugins_command", raise_unexpected)
    code, _, err = rlx("plugins")
    assert code == 1
    assert "Traceback" in err
    assert "Please report it" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run"], "Say what to run"),
        (["run", "--resume", "absent-dir"], "isn't a run directory"),
        (["run", "--resume", "x", "--config", "y.toml"], "leave out --config. --set changes a key"),
        (["rnu"], "Did you mean 'run'"),
        (["run", "--polcy", "3"], "--polcy"),
        (["run", "--policy", "three"], "'--policy'"),
    ],
)
def test_invalid_calls_exit_with_2(rlx, args, message):
    code, _, err = rlx(*args)
    assert code == 2
    assert message in err


def test_a_third_party_command_runs_and_cannot_replace_a_built_in_one(rlx, fake_dist):
    fake_dist(
        "cmd-dist",
        {"rlx.commands": {"greet": "greet_cmd:greet", "run": "greet_cmd:greet"}},
        {"greet_cmd.py": "def greet(name: str, loud: bool = False):\n    print('hello', name, loud)\n"},
    )
    assert rlx("greet", "you", "--loud")[:2] == (0, "hello you True\n")
    assert "Say what to run" in rlx("run")[2]


def test_the_versions_are_those_of_the_metadata(rlx):
    code, out, _ = rlx("--version")
    lines = dict(line.split(" ", 1) for line in out.splitlines())
    assert code == 0
    assert lines["rlx"] == metadata.version("rlx")
    installed = {distribution.name: distribution.version for distribution in metadata.distributions()}
    assert lines["transformers"] == installed.get("transformers", "not installed")  # the base install lacks it
    assert set(lines) == {"rlx", "torch", "vllm", "transformers", "python"}


def test_a_schema_accepts_what_a_launch_script_completes(rlx):
    code, out, _ = rlx("schema")
    schema = json.loads(out)
    assert code == 0
    assert schema["required"] == ["model"]
    assert "required" not in schema["$defs"]["EvalConfig"] or schema["$defs"]["EvalConfig"]["required"] == []


def test_a_tiny_model_is_not_written_over_other_files(rlx, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    code, _, err = rlx("models", "make-tiny", str(tmp_path))
    assert code == 2
    assert "isn't an empty folder" in err
