"""`tensorboard/`: event files, written without torch or TensorFlow.

A resumed run begins a new file with a START mark, so that TensorBoard discards the steps that the resume repeats; so
does a run that goes back to a checkpoint, in the same file.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlx.config.schema import Config
from rlx.loggers.base import Sample
from rlx.loggers.text import format_number
from rlx.terminal import visible

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

FOLDER = "tensorboard"
SECONDS_BETWEEN_SAMPLES = 30.0
"""Completions of steps are written this often at most: files of long runs of short steps stay small."""


class TensorBoardLogger:
    """Writes one scalar for each metric, and completions as text."""

    def __init__(self, config: Config, run_dir: Path, steps: int) -> None:  # noqa: ARG002 - every logger is made alike
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = run_dir / FOLDER
        folder.mkdir(exist_ok=True)
        self._writer = EventFileWriter(str(folder), flush_secs=5)
        self._started = False
        self._samples_at = float("-inf")

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:  # noqa: ARG002 - names show the kind
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._write(step, [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()])

    def log_samples(self, step: int, samples: Sequence[Sample], kind: str) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

        if kind == "train" and time.monotonic() - self._samples_at < SECONDS_BETWEEN_SAMPLES:
            return
        if kind == "train":
            self._samples_at = time.monotonic()
        text = "\n\n---\n\n".join(map(_as_markdown, samples))
        tensor = TensorProto(
            dtype="DT_STRING",
            string_val=[text.encode(errors="replace")],
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
        )
        plugin = SummaryMetadata.PluginData(plugin_name="text")
        metadata = SummaryMetadata(plugin_data=plugin)
        self._write(step, [Summary.Value(tag=f"samples/{kind}/text_summary", metadata=metadata, tensor=tensor)])

    def went_back(self, step: int, evaluated: Collection[int]) -> None:  # noqa: ARG002 - all steps from the next one on
        self._started = False

    def close(self, summary: Mapping[str, object]) -> None:  # noqa: ARG002
        self._writer.close()

    def _write(self, step: int, values: list[Summary.Value]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary

        if not self._started:
            start = SessionLog(status=SessionLog.START)
            self._writer.add_event(Event(wall_time=time.time(), step=step, session_log=start))
            self._started = True
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))


def _as_markdown(sample: Sample) -> str:
    """Return a sample as Markdown. Its texts are indented, which makes them code: their own markup is not read."""
    values = [f"{name} {format_number(value)}" for name, value in sample.rewards.items()]
    values += [] if sample.reference is None else [f"reference {sample.reference!r}"]
    where = f"row {sample.dataset_index}, group {sample.group_id}"
    head = f"{', '.join([f'reward {format_number(sample.reward)}', *values])}; {where}"
    texts = (textwrap.indent(visible(text), " " * 4, lambda _: True) for text in (sample.prompt, sample.completion))
    return "\n\n".join([visible(head), *texts])
