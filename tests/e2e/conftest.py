from __future__ import annotations

import pytest

from rlx.testing.models import make_char_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A folder with the character-level Qwen3 (0.8M parameters, float32, tied embeddings)."""
    return make_char_model(tmp_path_factory.mktemp("models") / "tiny", seed=1)
