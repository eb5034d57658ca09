"""A launch script, run to learn what it hands over.

The rules of this part:

* A script is run at most once in a process, as `__main__` with its own arguments, and only where something of it is
  needed.
* Whatever it raises is reported once, as the script's, with the lines of it that led there.
* Every process compares the script's file with the launcher's before it runs it.
"""

from __future__ import annotations

import runpy
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import msgspec

from rlx.boot import ScriptRecord
from rlx.errors import PluginError, RlxError, UsageError
from rlx.models.registry import ModelRegistry
from rlx.plugins.source import find_module, sha256
from rlx.script import launch_worker
from rlx.script.launch_worker import ScriptFinished, ScriptParts, capture_launch


class Script:
    """One launch script in one process."""

    def __init__(self, record: ScriptRecord) -> None:
        self.record = record

    @property
    def name(self) -> str:
        """`custom_entry`, of a file or a module."""
        return Path(self.record.target).stem if self.is_file else self.record.target.rpartition(".")[2]

    @property
    def is_file(self) -> bool:
        return self.record.target.endswith(".py")

    @cached_property
    def parts(self) -> ScriptParts:
        """Runs the script. Raises PluginError where it fails, or ends without `launch_worker`."""
        _check_same(self.record)
        parts = _run(self.record)
        self.record = msgspec.structs.replace(self.record, given=parts.given)
        return parts


def find_script(word: str, arguments: Sequence[str], folder: Path) -> Script:
    """The script that the user calls `word`: a file, or a module. Runs nothing. Raises UsageError: there is none."""
    source = _source(word, folder)
    if source is None:
        hint = f" Did you mean --config {word}?" if word.endswith(".toml") else ""
        raise UsageError(f"There is no launch script {word!r}: it is neither a file nor an importable module.{hint}")
    target = str(source) if _is_path(word) else word
    return Script(ScriptRecord(target, tuple(arguments), sha256(source), str(folder)))


def _source(word: str, folder: Path) -> Path | None:
    if _is_path(word):
        path = (folder / word).resolve()
        return path if path.is_file() and path.suffix == ".py" else None
    _show_folder(str(folder))
    found = find_module(word)
    if found is not None and found.name == "__init__.py":
        return find_module(f"{word}.__main__")
    return found


def _is_path(word: str) -> bool:
    return "/" in word or word.endswith((".py", ".toml"))


def _check_same(record: ScriptRecord) -> None:
    source = _source(record.target, Path(record.folder))
    if source is None or sha256(source) != record.sha256:
        raise PluginError(
            f"The launch script {record.target} is not the one that the launcher ran: "
            "leave it alone while a run goes on, and have the same one on every machine."
        )


def _show_folder(folder: str) -> None:
    """As Python does for the script that it is called with."""
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _run(record: ScriptRecord) -> ScriptParts:
    ModelRegistry.clear()
    before, sys.argv = sys.argv, [record.target, *record.arguments]
    try:
        with capture_launch():
            _execute(record)
    except ScriptFinished as handed:
        return _with_models(handed.parts)
    except RlxError:
        raise
    except (Exception, SystemExit) as error:  # the boundary: whatever a launch script raised is the script's
        raise PluginError(_failed(record, error)) from error
    finally:
        sys.argv = before
    raise PluginError(
        f"The launch script {record.target} ended without calling rlx.launch_worker(). "
        'Call it at its end, under `if __name__ == "__main__":`.'
    )


def _execute(record: ScriptRecord) -> None:
    if record.target.endswith(".py"):
        _show_folder(str(Path(record.target).parent))
        runpy.run_path(record.target, run_name="__main__")
    else:
        _show_folder(record.folder)
        runpy.run_module(record.target, run_name="__main__", alter_sys=True)


def _failed(record: ScriptRecord, error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if frame.filename not in _OURS and not frame.filename.startswith("<frozen")]
    lines = "".join(traceback.format_list(theirs)).rstrip()
    return f"The launch script {record.target} failed: {type(error).__name__}: {error}\n{lines}"


def _with_models(parts: ScriptParts) -> ScriptParts:
    return replace(parts, models=ModelRegistry.plugins())


_OURS = frozenset({__file__, runpy.__file__, launch_worker.__file__})
