"""Importing one plugin. This is the boundary where other people's import-time failures get an owner.

A file's folder is appended to `sys.path` (last, so that it hides nothing): the file can import its neighbours,
as Python scripts do.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from rlx.boot import PluginRecord
from rlx.errors import PluginError, RlxError, did_you_mean
from rlx.plugins.records import is_file, owner, split_target


def load(record: PluginRecord) -> Any:
    """The object that a record names. Raises PluginError where its import fails or the attribute is missing."""
    place, attribute = split_target(record.target)
    try:
        module = _import_file(Path(place)) if is_file(place) else importlib.import_module(place)
    except RlxError:
        raise
    except (Exception, SystemExit) as error:  # the boundary: whatever an import raised is the plugin's
        raise PluginError(_failed(record, place, error)) from error
    found: Any = module
    for name in attribute.split(".") if attribute else ():
        if not hasattr(found, name):
            raise PluginError(_missing(record, place, found, name))
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
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _failed(record: PluginRecord, place: str, error: BaseException) -> str:
    todo = _advice(record, place, error)
    return f"{owner(record)} can't be imported: {type(error).__name__}: {error}\n{todo} (--traceback shows where.)"


def _advice(record: PluginRecord, place: str, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"Install what provides the module {error.name!r}."
    if is_file(place):
        return "Correct the file."
    return (
        f"Report it to the authors of {record.dist}, or try another version." if record.dist else "Correct the module."
    )


def _missing(record: PluginRecord, place: str, holder: object, name: str) -> str:
    public = [known for known in vars(holder) if not known.startswith("_")] if hasattr(holder, "__dict__") else []
    return f"{owner(record)}: {place} has no {name!r}.{did_you_mean(name, public)}"
