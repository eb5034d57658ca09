"""pytest fixtures for tests of plugins. Enable them in the top conftest.py or in a test module:

    pytest_plugins = ["rlx.testing.fixtures"]

No entry point names this module, so installing rlx does not change any pytest run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlx.testing.dist import FakeDists
from rlx.testing.project import Project
from rlx.testing.stand_ins.tokenizer import CHAT_TEMPLATE, CharTokenizer


@pytest.fixture
def fake_dist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDists]:
    """Install a distribution for one test, as pip would: entry points, version, requirements, modules.

    `fake_dist("my-dist", {"rlx.rewards": {"judge": "judges:judge"}}, {"judges.py": "def judge(text): ..."})`.
    Processes that the test starts see it too.
    """
    dists = FakeDists(tmp_path, monkeypatch)
    yield dists
    dists.forget()


@pytest.fixture(scope="session")
def char_tokenizer() -> CharTokenizer:
    """A tokenizer with one token per character, without transformers."""
    return CharTokenizer()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder: a character-level Qwen3 of 0.8M random float32 parameters, with a chat template.

    Its context is 1024 tokens, enough for a config of defaults. Needs torch and transformers; made once per session.
    """
    from rlx.testing.stand_ins.models import make_char_model

    folder = tmp_path_factory.mktemp("models") / "tiny"
    return make_char_model(folder, seed=1, chat_template=CHAT_TEMPLATE, max_position_embeddings=1024)


@pytest.fixture
def rlx_project(tmp_path: Path) -> Project:
    """An empty project: `.write({"config.toml": ..., "shape.py": ...})`, then `.check()` or `.run()`.

    Both run in processes of their own and return a result with `.code`, `.out`, `.err`. After a run, the project has
    `.summary` and `.metrics`.
    """
    path = tmp_path / "project"
    path.mkdir()
    return Project(path)
