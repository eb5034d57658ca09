"""Plugins that `rlx plugin new` generates work unchanged: they build, install, pass their tests, and run."""

from __future__ import annotations

import json

import pytest

from rlx_cli.scaffold import KINDS

CONFIG = """
[run]
name = "generated"
steps = 2
launcher = "my-launcher"
loggers = ["jsonl", "my-logger"]

[model]
path = "{model}"
plugin = "my-model"

[dataset]
name = "my-dataset"
args = {{ high = 5 }}

[packer]
name = "my-packer"
args = {{ prefix = "> " }}

[[rewards]]
name = "my-reward"

[[rewards]]
name = "{variety}"
weight = 0.01

[algorithm]
name = "my-algorithm"
args = {{ scale = 0.5 }}
group_size = 4

[rollout]
max_tokens = 4
vllm = {{ max_model_len = 64 }}

[policy]
groups_per_step = 4
dtype = "float32"

[plugins]
enable = ["my-hook"]
"""
VARIETY = "def variety(to_be_evaluated, reference=None):\n    return float(len(set(to_be_evaluated)))\n"


@pytest.fixture(scope="module")
def config(generated, tiny_model):
    """The config of a run that uses all of them. A random policy gives no right answers, so variety is rewarded too."""
    (generated.folder / "variety.py").write_text(VARIETY)
    path = generated.folder / "x.toml"
    path.write_text(CONFIG.format(model=tiny_model, variety="./variety.py:variety"))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_the_generated_tests_pass_where_the_plugin_is_installed(generated, kind):
    folder = generated.folder / f"my-{kind}"
    code = f"import my_{kind}; print(my_{kind}.__file__)"
    assert str(generated.folder / "venv") in generated.run([generated.python, "-c", code], folder)
    output = generated.run([generated.python, "-m", "pytest", "-q", "-p", "no:cacheprovider"], folder)
    assert " passed" in output
    assert "skipped" not in output


@pytest.mark.parametrize("kind", KINDS)
def test_a_plugin_is_listed_with_its_distribution_and_keeps_its_contract(generated, kind):
    rows = json.loads(generated.rlx("plugins", "--json"))
    assert [(row["kind"], row["name"], row["version"]) for row in rows if row["dist"] == f"my-{kind}"] == [
        (f"{kind}s", f"my-{kind}", "0.1.0")
    ]
    (row,) = json.loads(generated.rlx("plugins", "check", f"my-{kind}", "--json"))
    # These need a folder of weights, and processes that are started.
    assert row["result"] == ("not tested" if kind in ("model", "launcher") else "fine"), row


def test_a_config_can_name_all_plugins(generated, config):
    output = generated.rlx("check", config)
    for kind in KINDS:
        if kind not in ("hook", "command"):
            assert f"my-{kind} 0.1.0" in output


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_a_run_uses_all_plugins(generated, config):
    run_dir = generated.folder / "run"
    generated.rlx("run", "--config", config, "--run-dir", run_dir, timeout=500)
    assert json.loads((run_dir / "summary.json").read_text())["status"] == "done"
    used = {(one["kind"], one["name"], one["dist"]) for one in json.loads((run_dir / "plugins.json").read_text())}
    assert {(f"{kind}s", f"my-{kind}", f"my-{kind}") for kind in KINDS if kind != "command"} <= used
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["kind"] == "train"]
    assert len(train) == 2
    assert all(line["my-hook/best_reward"] >= line["reward/mean"] for line in train)
    assert all("reward/my-reward" in line and line["grad_norm"] > 0 for line in train)
    rows = (run_dir / "my-logger.csv").read_text().splitlines()
    assert rows == [f"{line['step']},train,{line['reward/mean']}," for line in train]
    assert len(generated.rlx("my-command", run_dir, "--metric", "reward/my-reward").splitlines()) == 2
