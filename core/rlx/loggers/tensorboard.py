"""`tensorboard/`: event files, written without torch and without TensorFlow.

A resumed run begins a new file with a START mark, so that TensorBoard forgets steps that the resume takes back.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlx.config.schema import Config

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

FOLDER = "tensorboard"


class TensorBoardLogger:
    """One scalar for each metric."""

    def __init__(self, config: Config, run_dir: Path, steps: int) -> None:  # noqa: ARG002 - every logger is made alike
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = run_dir / FOLDER
        folder.mkdir(exist_ok=True)
        self._writer = EventFileWriter(str(folder), flush_secs=5)
        self._begun = False

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:  # noqa: ARG002 - names tell the kinds apart
        from tensorboard.compat.proto.summary_pb2 import Summary

        if not self._begun:
            self._begin(step)
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._write(step, summary=Summary(value=values))

    def close(self, summary: Mapping[str, Any]) -> None:  # noqa: ARG002
        self._writer.close()

    def _begin(self, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog

        self._write(step, session_log=SessionLog(status=SessionLog.START))
        self._begun = True

    def _write(self, step: int, **what: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event as MakeEvent

        event: Event = MakeEvent(wall_time=time.time(), step=step, **what)
        self._writer.add_event(event)
