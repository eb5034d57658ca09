"""Paths of rlx 0.1 (`from rlx.api.packer import DataPacker`): they work for one more release, with a warning.

Each of the modules in `_MOVED` exists as soon as this package is imported. Using a name of one warns, with the path
that replaces it.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import rlx

_MOVED = {
    "algorithm": "rlx.algorithms.base",
    "base_model": "rlx.models.base_model",
    "dataset": "rlx.datasets.open",
    "fingerprint": "rlx.fingerprint",
    "hookspecs": "rlx.plugins.hookspecs",
    "launcher": "rlx.launchers.base",
    "logger": "rlx.loggers.base",
    "model": "rlx.models.plugin",
    "model_registry": "rlx.models.registry",
    "packer": "rlx.packers.base",
    "packer_calls": "rlx.packers.batches",
    "policy_input": "rlx.packers.loss_mask",
    "prompt": "rlx.packers.prompt",
    "reward": "rlx.rewards.base",
    "rows": "rlx.datasets.open",
    "sft": "rlx.packers.sft_rows",
    "signature": "rlx.plugins.signature",
    "tensor_parallel": "rlx.models.tensor_parallel",
    "turns": "rlx.packers.chat_turns",
    "types": "rlx.episodes",
}


class _MovedModule(ModuleType):
    """Stands in for a module that moved to `home`."""

    def __init__(self, name: str, home: str) -> None:
        super().__init__(name, f"Moved to {home}.")
        self.__spec__ = ModuleSpec(name, None)
        self._home = home

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(self._home), name, None)
        if found is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}; it moved to {self._home}")
        home = "rlx" if name in rlx.__all__ else self._home
        warnings.warn(
            f"{self.__name__}.{name} is deprecated and goes with the next release: use {home}.{name}",
            DeprecationWarning,
            stacklevel=2,
        )
        return found


for _name, _home in _MOVED.items():
    globals()[_name] = sys.modules[f"{__name__}.{_name}"] = _MovedModule(f"{__name__}.{_name}", _home)
