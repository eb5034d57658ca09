from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tomli

from rlx.plugins.catalog import discover
from rlx.testing import CharTokenizer

ROOT = Path(__file__).parents[3]
AUTHORS = """
from rlx.testing import check_reward

def test_judge(fake_dist, rlx_project, char_tokenizer):
    files = {"judging.py": "def judge(text, reference=None): return 1.0"}
    fake_dist("judges", {"rlx.rewards": {"judge": "judging:judge"}}, files)
    from judging import judge
    check_reward(judge)
    assert char_tokenizer.encode("0") == [3]
    assert rlx_project.path.is_dir()

def test_next():
    import importlib.util
    assert importlib.util.find_spec("judging") is None
"""


def pytest_run(folder, *options):
    """Run pytest as a plugin author does, without rlx's own configuration."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_it.py").write_text(AUTHORS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


def test_installing_rlx_does_not_change_pytest(tmp_path):
    assert "pytest11" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    done = pytest_run(tmp_path)
    assert done.returncode == 1
    assert "fixture 'fake_dist' not found" in done.stdout


def test_one_line_enables_the_fixtures(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["rlx.testing.fixtures"]\n')
    done = pytest_run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_a_fake_distribution_is_visible_to_this_and_other_processes(fake_dist):
    fake_dist(
        "my-judges",
        {"rlx.rewards": {"judge": "judges.mine:judge"}, "rlx.hooks": {"notes": "notes"}},
        {"judges/__init__.py": "", "judges/mine.py": "def judge(text): return 1.0\n"},
        version="2.1",
        requires=["rlx>=0.1", "httpx"],
    )
    entries = [entry for entry in discover().entries if entry.dist == "my-judges"]
    assert [(entry.kind, entry.name, entry.version) for entry in entries] == [
        ("rewards", "judge", "2.1"),
        ("hooks", "notes", "2.1"),
    ]
    assert entries[0].requires_rlx == ("rlx>=0.1",)
    code = "import judges.mine; from importlib.metadata import requires; print(requires('my-judges'))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "['rlx>=0.1', 'httpx']"


def test_the_tiny_model_is_loaded_by_transformers_and_has_the_characters(tiny_model, char_tokenizer):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert isinstance(char_tokenizer, CharTokenizer)
    assert tokenizer.encode("1+1=") == char_tokenizer.encode("1+1=")
    assert tokenizer.chat_template == char_tokenizer.chat_template
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert model(torch.tensor([[3, 4]])).logits.shape == (1, 2, len(char_tokenizer))
    assert 0.5e6 < model.num_parameters() < 1e6


CONFIG = """
    [model]
    path = {path}

    [dataset]
    name = "./parts.py:rows"

    [[rewards]]
    name = "./parts.py:{reward}"
"""
PARTS = """
    rows = ["1+1=", "2+2="]

    def right(text, reference=None):
        return float(text == "2")
"""


@pytest.mark.parametrize(("reward", "code", "message"), [("right", 0, ""), ("rihgt", 2, "Did you mean 'right'")])
def test_a_project_can_be_checked(rlx_project, tiny_model, reward, code, message):
    rlx_project.write(
        {"config.toml": CONFIG.format(path=json.dumps(str(tiny_model)), reward=reward), "parts.py": PARTS}
    )
    assert (rlx_project.path / "parts.py").read_text().startswith("rows")
    result = rlx_project.check()
    assert result.code == code, result
    assert message in result.err
    assert ("./parts.py:right" in result.out) == (code == 0)


def test_a_run_of_a_project_gets_its_options(rlx_project, tiny_model):
    rlx_project.write(
        {"config.toml": CONFIG.format(path=json.dumps(str(tiny_model)), reward="right"), "parts.py": PARTS}
    )
    result = rlx_project.run("--dry-run", "--set", "run.steps=3")
    assert result.code == 0, result
    assert tomli.loads(result.out)["run"]["steps"] == 3
    assert not rlx_project.run_dir.exists()


def test_a_project_reads_summary_and_metrics(rlx_project):
    rlx_project.write(
        {"run/summary.json": '{"status": "done"}', "run/metrics.jsonl": '{"step": 0, "loss": 1.5}\n{"step": 1}\n'}
    )
    assert rlx_project.summary == {"status": "done"}
    assert rlx_project.metrics == [{"step": 0, "loss": 1.5}, {"step": 1}]
