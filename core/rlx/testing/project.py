"""A user's project in a folder: a config, files beside it, and the `rlx` command in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

from rlx.names import METRICS_FILE, SUMMARY_FILE

CONFIG = "config.toml"


@dataclass(frozen=True)
class Result:
    """Exit code and output of an `rlx` command."""

    code: int
    """0: success; 1: a run failed; 2: nothing was started."""
    out: str
    err: str


class Project:
    """The fixture `rlx_project`. `path` is the project's folder; a run writes to `run_dir`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_dir = path / "run"

    def write(self, files: Mapping[str, str]) -> None:
        """Write files (path in the project -> text), without their common indentation. The config is `config.toml`."""
        for name, text in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_text(dedent(text).lstrip("\n"), encoding="utf-8")

    def check(self, *options: str, timeout: float = 120) -> Result:
        """Run `rlx check config.toml OPTIONS`."""
        return self.rlx("check", CONFIG, *options, timeout=timeout)

    def run(self, *options: str, timeout: float = 600) -> Result:
        """Run `rlx run --config config.toml --run-dir run OPTIONS`."""
        return self.rlx("run", "--config", CONFIG, "--run-dir", str(self.run_dir), *options, timeout=timeout)

    def rlx(self, *arguments: str, timeout: float = 120) -> Result:
        """Run any `rlx` command in the project's folder. Raises subprocess.TimeoutExpired."""
        done = subprocess.run(
            [sys.executable, "-m", "rlx_cli.main", *arguments],
            cwd=self.path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    @property
    def summary(self) -> dict[str, Any]:
        """Contents of the run's summary.json."""
        summary: dict[str, Any] = json.loads((self.run_dir / SUMMARY_FILE).read_text(encoding="utf-8"))
        return summary

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Lines of the run's metrics.jsonl, as dicts. Needs the logger `jsonl`, which is on by default."""
        lines = (self.run_dir / METRICS_FILE).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]
