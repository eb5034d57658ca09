"""Every integration test leaves this process as it found it, so that the order of tests doesn't matter."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _forget_imports(tmp_path: Path) -> Iterator[None]:
    """Undo what the import of a test's own files changes in this process: `sys.path` and `sys.modules`."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name, module in sys.modules.copy().items():
        if str(getattr(module, "__dict__", {}).get("__file__", "")).startswith(f"{tmp_path}/"):
            del sys.modules[name]
