"""`metrics.jsonl`: one JSON object per line, flushed at once, so that the file can be followed during the run.

Fields: step, kind (`train` or `eval`), time (Unix seconds), then the metrics by name. NaN and infinity are written as
null. A resumed run appends; if a step appears twice, the later line counts.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

from rlx.config.schema import Config
from rlx.names import METRICS_FILE


class JsonlLogger:
    """Writes the run's metrics as lines of JSON."""

    def __init__(self, config: Config, run_dir: Path, steps: int) -> None:  # noqa: ARG002 - every logger is made alike
        self._file = (run_dir / METRICS_FILE).open("a", encoding="utf-8")

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, "kind": kind, "time": time.time(), **finite}) + "\n")
        self._file.flush()

    def close(self, summary: Mapping[str, object]) -> None:  # noqa: ARG002 - the launcher writes summary.json
        self._file.close()
