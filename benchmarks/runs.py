"""Run `rlx run` for a benchmark, with overrides and in a temporary directory, and read its metrics."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / "models"
CONFIG = HERE / "runs.toml"


def toml(value: Any) -> str:
    """Return a plain value in the syntax of `--set`."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(entry)}" for key, entry in value.items()) + " }"
    return json.dumps(value)


def rlx_run(sets: Mapping[str, Any]) -> list[dict[str, float]]:
    """Run, and return the metrics of each training step except for the first (warm-up). The run prints to stderr."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = [sys.executable, "-m", "rlx_cli.main", "run", "--config", str(CONFIG), "--run-dir", str(run_dir)]
        for key, value in sets.items():
            command += ["--set", f"{key}={toml(value)}"]
        subprocess.run(command, check=True, stdout=sys.stderr)
        rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == "train"][1:]


def median(rows: Sequence[Mapping[str, float]], key: str) -> float:
    return statistics.median(row[key] for row in rows)


def threads(count: int) -> dict[str, Any]:
    """Return settings for the number of threads of each engine and policy process."""
    environment = {"OMP_NUM_THREADS": str(count)}
    return {"rollout.env": environment, "policy.env": environment}


def char_model(name: str, **shape: Any) -> str:
    """Return the folder of a random character-level model, which is made once."""
    from rlx.testing.models import make_char_model

    folder = CACHE / name
    return str(folder if (folder / "config.json").exists() else make_char_model(folder, **shape))


def smollm2_model() -> str:
    from smollm2 import smollm2

    return str(smollm2(CACHE / "smollm2-135m"))
