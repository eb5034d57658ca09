"""A project with a small model, and the command line in this process."""

from __future__ import annotations

import json
import shutil
import sys

import pytest

from rlx.testing.models import make_char_model
from rlx_cli.main import main

DATA = """
rows = ["1+1=", "2+2="]
chat = [[{"role": "user", "content": "1+1="}]]
empty = []
columns = [{"question": "1+1=", "answer": "2"}]
targets = [{"prompt": "1+1=", "answer": "2"}]

def score(text, reference=None, *, strict: bool = False, **kwargs):
    return 1.0

def many(count: int = 2, config=None):
    return ["1+1="] * count

def broken():
    raise OSError("no such table")

class Odd:
    def __init__(self, size: int): ...

class Pictures:
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {"prompt": "1+1=", "images": [b"", object()]}

class Complex:
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return "1+1="

    def get_reference_answer(self, index):
        return [1, 1j][index]

not_callable = 3
"""


@pytest.fixture(scope="session")
def char_model(tmp_path_factory):
    """The folder of a small character-level model; tests use the copy `model`."""
    shape = {
        "num_hidden_layers": 1,
        "hidden_size": 32,
        "intermediate_size": 64,
        "head_dim": 32,  # vLLM's attention on a CPU takes no smaller one
        "max_position_embeddings": 1024,
    }
    return make_char_model(tmp_path_factory.mktemp("model"), **shape)


class Untried:
    """Takes the place of the reward process, for tests of something else: test_trials.py has those of rewards."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def finish_loading(self):
        pass

    def call(self, rewards, rows, tokenizer):
        pass


@pytest.fixture
def untried(monkeypatch):
    """Rewards are not called, which saves a process for each check."""
    monkeypatch.setattr("rlx.preflight.plan.RewardTrial", Untried)


@pytest.fixture
def model(char_model, tmp_path):
    """A copy of the model that a test may damage."""
    return shutil.copytree(char_model, tmp_path / "model")


@pytest.fixture
def call(monkeypatch, capsys):
    """`call(*arguments)`: run `rlx` in this process; return its exit code, stdout and stderr."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["rlx", *map(str, args)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture
def project(tmp_path, model, monkeypatch):
    """`project(rewards=..., dataset=..., algorithm=..., extra=...)`: write a config, good by default; return its path.

    It is in a folder with data.py, which is the working directory. `extra` is TOML at the config's end, in `[dataset]`.
    """
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "data.py").write_text(DATA)

    def write(rewards="./data.py:score", dataset="./data.py:rows", algorithm="grpo", extra=""):
        reward = f"[[rewards]]\nname = {json.dumps(rewards)}\n" if rewards else ""
        text = (
            f"[model]\npath = {json.dumps(str(model))}\n[algorithm]\nname = {json.dumps(algorithm)}\n{reward}"
            f"[run]\nloggers = []\nsteps = 2\n[dataset]\nname = {json.dumps(dataset)}\n{extra}"
        )
        (folder / "x.toml").write_text(text)
        return folder / "x.toml"

    return write
