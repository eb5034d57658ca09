"""Fake distributions: metadata and modules in a folder, as pip would install them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest


class FakeDists:
    """The fixture `fake_dist`: each call installs one distribution until the test ends."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root = root
        self._monkeypatch = monkeypatch
        self._modules = set(sys.modules)
        self._sites = 0

    def __call__(
        self,
        name: str,
        points: Mapping[str, Mapping[str, str]],
        files: Mapping[str, str] = MappingProxyType({}),
        *,
        version: str = "1.0",
        requires: Iterable[str] = (),
    ) -> Path:
        """Install distribution `name`, and return the folder that serves as its site-packages.

        points: entry-point group -> name -> `module:attribute`. files: path -> text. requires: `Requires-Dist` lines.
        It is first on `sys.path`, and on PYTHONPATH for the processes that the test starts.
        """
        site = self._root / f"site{self._sites}"
        self._sites += 1
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        wants = "".join(f"Requires-Dist: {line}\n" for line in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{wants}")
        groups = (f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in points.items())
        (info / "entry_points.txt").write_text("\n".join(groups))
        for file, text in files.items():
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            (site / file).write_text(text)
        self._monkeypatch.syspath_prepend(str(site))
        self._monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
        return site

    def forget(self) -> None:
        """Remove modules from `sys.modules` that were imported from fake distributions."""
        for module in set(sys.modules) - self._modules:
            if str(self._root) in str(getattr(sys.modules[module], "__file__", "")):
                del sys.modules[module]
