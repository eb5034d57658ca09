"""`metrics.jsonl`: one JSON object a line, written through at once, so that it can be followed while the run goes
on.

Fields: step, kind (`train` or `eval`), time (Unix seconds), then the metrics by name. A figure that is no number
(NaN, infinity) is null. A resumed run appends; where a step appears twice, the later line is the one that counts.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlx.config.schema import Config
from rlx.names import METRICS_FILE


class JsonlLogger:
    """The run's figures as lines of JSON."""

    def __init__(self, config: Config, run_dir: Path, steps: int) -> None:  # noqa: ARG002 - every logger is made alike
        self._file = (run_dir / METRICS_FILE).open("a", encoding="utf-8")

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:
        figures = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, "kind": kind, "time": time.time(), **figures}) + "\n")
        self._file.flush()

    def close(self, summary: Mapping[str, Any]) -> None:  # noqa: ARG002 - the launcher writes summary.json
        self._file.close()
