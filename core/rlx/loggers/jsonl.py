"""`metrics.jsonl`: one JSON object per line, flushed at once, so that the file can be followed during the run.

Fields: step, kind (`train` or `eval`), time (Unix seconds), then the metrics by name. NaN and infinity are written as
null. A resumed run appends; if a step appears twice, the later line counts.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from rlx.config.schema import Config
from rlx.files import write_atomic
from rlx.names import METRICS_FILE


class JsonlLogger:
    """Writes the run's metrics as lines of JSON."""

    def __init__(self, config: Config, run_dir: Path, steps: int) -> None:  # noqa: ARG002 - every logger is made alike
        self._path = run_dir / METRICS_FILE
        self._file = self._path.open("a", encoding="utf-8")

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, "kind": kind, "time": time.time(), **finite}) + "\n")
        self._file.flush()

    def went_back(self, step: int, evaluated: Collection[int]) -> None:
        self._file.close()
        cut_metrics(self._path, step, evaluated)
        self._file = self._path.open("a", encoding="utf-8")

    def close(self, summary: Mapping[str, object]) -> None:  # noqa: ARG002 - the launcher writes summary.json
        self._file.close()


def cut_metrics(path: Path, version: int, evaluated: Collection[float]) -> None:
    """Keep the lines of steps that led to `version` and of the versions `evaluated`; a torn last line is cut, too."""
    if path.exists():
        lines = path.read_bytes().splitlines(keepends=True)
        write_atomic(path, b"".join(line for line in lines if _is_before(line, version, evaluated)))


def _is_before(line: bytes, version: int, evaluated: Collection[float]) -> bool:
    try:
        row = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return False
    known: bool = row["step"] < version if row["kind"] == "train" else row["step"] in evaluated
    return line.endswith(b"\n") and known
