from __future__ import annotations

pytest_plugins = ["rlx.testing.fixtures"]
