"""`tensorboard/`: event files, written without torch or TensorFlow.

A resumed run begins a new file with a START mark, so that TensorBoard discards the steps that the resume repeats.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from rlx.config.schema import Config

FOLDER = "tensorboard"


class TensorBoardLogger:
    """Writes one scalar for each metric."""

    def __init__(self, config: Config, run_dir: Path, steps: int) -> None:  # noqa: ARG002 - every logger is made alike
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = run_dir / FOLDER
        folder.mkdir(exist_ok=True)
        self._writer = EventFileWriter(str(folder), flush_secs=5)
        self._started = False

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:  # noqa: ARG002 - names show the kind
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary

        if not self._started:
            start = SessionLog(status=SessionLog.START)
            self._writer.add_event(Event(wall_time=time.time(), step=step, session_log=start))
            self._started = True
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def close(self, summary: Mapping[str, object]) -> None:  # noqa: ARG002
        self._writer.close()
