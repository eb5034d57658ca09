"""Import one plugin, and attribute exceptions of its import to its owner.

The folder of a file is appended to `sys.path`, last so that it hides nothing: the file can import its neighbours, as
Python scripts do.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from rlx.boot import PluginRecord
from rlx.errors import PluginError, attribute, did_you_mean, missing_extra
from rlx.plugins.contain import contained
from rlx.plugins.records import is_file, owner, split_target


def load(record: PluginRecord) -> Any:
    """Return the object that a record names. Raises PluginError if the import fails or the attribute is missing."""
    place, path = split_target(record.target)
    who = owner(record)
    boundary = attribute(who, "its import", advice=lambda error: _advice(record, place, error))
    with boundary, contained(who, "its import"):
        found: Any = _import_file(Path(place)) if is_file(place) else importlib.import_module(place)
        for name in path.split(".") if path else ():
            if not hasattr(found, name):
                public = [known for known in getattr(found, "__dict__", {}) if not known.startswith("_")]
                raise PluginError(f"{who}: {place} has no {name!r}.{did_you_mean(name, public)}")
            found = getattr(found, name)
    return found


def _import_file(path: Path) -> ModuleType:
    name = f"rlx_file_{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses and pickle look modules up by name
    with ExitStack() as undo:
        # On any exception, Ctrl-C included: a half-initialized module must not stay.
        undo.callback(sys.modules.pop, name, None)
        spec.loader.exec_module(module)
        undo.pop_all()
    return module


def _advice(record: PluginRecord, place: str, error: BaseException) -> str:
    if extra := missing_extra(error):
        advice = f"{extra}."
    elif isinstance(error, ModuleNotFoundError) and error.name:
        advice = f"Install the distribution that provides the module {error.name!r}."
    elif is_file(place):
        advice = "Correct the file."
    elif record.dist:
        advice = f"Report it to the authors of {record.dist}, or try another version."
    else:
        advice = "Correct the module."
    return f"{advice} (--traceback shows where.)"
