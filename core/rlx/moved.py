"""Old module paths that still work for one release, with a DeprecationWarning that names the new path."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from types import MappingProxyType, ModuleType

_NONE: Mapping[str, str] = MappingProxyType({})


def moved_modules(
    package: str, homes: Mapping[str, str], renamed: Mapping[str, str] = _NONE, removed: Mapping[str, str] = _NONE
) -> dict[str, ModuleType]:
    """Return stand-ins for old modules of `package`, and make them importable.

    homes: old module -> the module that most of its names moved to.
    renamed: `module.name` -> new path, for names that were renamed or moved elsewhere.
    removed: `module.name` -> the advice to give, for names that are gone.
    """
    modules: dict[str, ModuleType] = {
        name: _MovedModule(package, name, homes[name], renamed, removed) for name in homes
    }
    sys.modules.update({f"{package}.{name}": module for name, module in modules.items()})
    return modules


class _MovedModule(ModuleType):
    """Stand-in for one old module: reading a name warns, and returns the object from its new place."""

    def __init__(
        self, package: str, name: str, home: str, renamed: Mapping[str, str], removed: Mapping[str, str]
    ) -> None:
        super().__init__(f"{package}.{name}", f"Moved to {home}.")
        self.__spec__ = ModuleSpec(self.__name__, None)
        self._name = name
        self._home = home
        self._renamed = renamed
        self._removed = removed

    def __getattr__(self, name: str) -> object:
        old = f"{self._name}.{name}"
        missing = f"module {self.__name__!r} has no attribute {name!r}"
        if name.startswith("__"):
            raise AttributeError(missing)
        if old in self._removed:
            raise AttributeError(f"{missing} any more: {self._removed[old]}")
        module, _, new = self._renamed.get(old, f"{self._home}.{name}").rpartition(".")
        try:
            found: object = getattr(importlib.import_module(module), new)
        except AttributeError:
            raise AttributeError(f"{missing}; it moved to {module}") from None
        rlx = importlib.import_module("rlx")
        place = "rlx" if new in rlx.__all__ and getattr(rlx, new) is found else module
        warnings.warn(
            f"{self.__name__}.{name} is deprecated and will be removed in the next release: use {place}.{new}",
            DeprecationWarning,
            stacklevel=2,
        )
        return found
