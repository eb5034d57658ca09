from __future__ import annotations

import pytest


@pytest.fixture
def arrow_cache(tmp_path, monkeypatch):
    """Where `datasets` writes its Arrow files."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
