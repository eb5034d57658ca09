from __future__ import annotations

import sys

import pytest

from rlx.preflight.load import load_run
from rlx.script.runner import find_script

CONFIG = '[model]\npath = "m"\n'


@pytest.fixture
def script(tmp_path, monkeypatch):
    """`script(text, *arguments)`: write the text to a file and find it as rlx does."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def make(text, *arguments, name="entry.py"):
        (tmp_path / name).write_text(text)
        return find_script(name, arguments, tmp_path)

    return make


@pytest.fixture
def load(script, tmp_path):
    """`load(script text, config text)`: load the config that both make together."""

    def load(text, config=CONFIG):
        (tmp_path / "x.toml").write_text(config)
        return load_run(tmp_path / "x.toml", (), None, None, script=script(text))

    return load
