"""Find a launch script and run it, to get the components that it gives.

Rules:

* A script runs at most once in a process, as `__main__` with its own arguments, and only if one of its components is
  needed.
* Its errors are reported once, as the script's, with the lines of the script that led there.
* Every process checks that the script's file is the launcher's before it runs it.
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
from rlx.errors import PluginError, UsageError, attribute, foreign_frames
from rlx.models.registry import ModelRegistry
from rlx.plugins.contain import contained
from rlx.plugins.resolve import find_module, sha256
from rlx.script.launch_worker import ScriptFinished, ScriptParts, capture_launch


class Script:
    """One launch script in one process."""

    def __init__(self, record: ScriptRecord) -> None:
        self.record = record

    @property
    def name(self) -> str:
        """`custom_entry`, of a file or a module."""
        target = self.record.target
        return Path(target).stem if target.endswith(".py") else target.rpartition(".")[2]

    @cached_property
    def parts(self) -> ScriptParts:
        """The parts that it gives; runs the script. Raises PluginError if it fails, or ends without `launch_worker`."""
        source = _source(self.record.target, Path(self.record.folder))
        if source is None or sha256(source) != self.record.sha256:
            raise PluginError(
                f"The launch script {self.record.target} is not the one that the launcher ran: "
                "leave it unchanged during a run, and have the same one on every machine."
            )
        parts = _run(self.record)
        self.record = msgspec.structs.replace(self.record, given=parts.given)
        return parts


def find_script(word: str, arguments: Sequence[str], folder: Path) -> Script:
    """Find the script that the user calls `word`: a file, or a module. Runs nothing. Raises UsageError if not found."""
    source = _source(word, folder)
    if source is None:
        hint = f" Did you mean --config {word}?" if word.endswith(".toml") else ""
        raise UsageError(
            f"The launch script {word!r} was not found: it is neither a file nor an importable module.{hint}"
        )
    target = str(source) if _is_path(word) else word
    return Script(ScriptRecord(target, tuple(arguments), sha256(source), str(folder)))


def _source(word: str, folder: Path) -> Path | None:
    if _is_path(word):
        path = (folder / word).resolve()
        return path if path.is_file() and path.suffix == ".py" else None
    _add_to_path(str(folder))
    found = find_module(word)
    if found is not None and found.name == "__init__.py":
        return find_module(f"{word}.__main__")
    return found


def _is_path(word: str) -> bool:
    return "/" in word or word.endswith((".py", ".toml"))


def _add_to_path(folder: str) -> None:
    """Make the modules in `folder` importable, as Python does for the script that it is called with."""
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _run(record: ScriptRecord) -> ScriptParts:
    ModelRegistry.clear()
    before, sys.argv = sys.argv, [record.target, *record.arguments]

    def own_frames(error: BaseException) -> str:
        return "".join(traceback.format_list(foreign_frames(error))).rstrip()

    who = f"The launch script {record.target}"
    try:
        with capture_launch(), attribute(who, "running it", advice=own_frames), contained(who, "running it"):
            if record.target.endswith(".py"):
                _add_to_path(str(Path(record.target).parent))
                runpy.run_path(record.target, run_name="__main__")
            else:
                _add_to_path(record.folder)
                runpy.run_module(record.target, run_name="__main__", alter_sys=True)
    except ScriptFinished as finished:
        return replace(finished.parts, models=ModelRegistry.plugins())
    finally:
        sys.argv = before
    raise PluginError(
        f"The launch script {record.target} ended without calling rlx.launch_worker(). "
        'Call it at its end, under `if __name__ == "__main__":`.'
    )
