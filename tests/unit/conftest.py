from __future__ import annotations

import sys
from itertools import count

import pytest


@pytest.fixture
def fake_dist(tmp_path, monkeypatch):
    """`fake_dist(name, {"rlx.rewards": {"judge": "mod:fn"}}, {"mod.py": "..."})`: a distribution on sys.path."""
    before, numbers = set(sys.modules), count()

    def make(name, points, files=(), version="1.0", requires=()):
        site = tmp_path / f"site{next(numbers)}"
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        wants = "".join(f"Requires-Dist: {line}\n" for line in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{wants}")
        groups = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in points.items()]
        (info / "entry_points.txt").write_text("\n".join(groups))
        for file, text in dict(files).items():
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            (site / file).write_text(text)
        monkeypatch.syspath_prepend(str(site))
        return site

    yield make
    for module in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]
