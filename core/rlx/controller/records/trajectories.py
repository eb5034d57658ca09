"""Trajectories as Parquet, one file per step: for people, pandas, DuckDB and `datasets.load_dataset("parquet", ...)`.

One row for each trajectory (a single-turn episode has one). Columns: step, split (train or eval), group_id, sample,
trajectory, dataset_index, prompt, completion, reference (None: the row has none), reward (None: not scored), rewards
(struct: one field for each reward, by its label), metrics (struct: the episode's metrics, by their names in
metrics.jsonl), stop_reason, finish_reason, prompt_token_ids, token_ids (everything after the prompt), logprobs and
weight_versions (as long as token_ids; null for tokens that were not sampled), advantage (with which the step trained
the episode; null in an evaluation).

A file is written under another name and renamed when it is complete, so it is safe to read while the run continues.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from rlx.episodes import Episode, Segment, decode_episodes
from rlx.files import sync_file, sync_folder

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
Split = Literal["train", "eval"]


@dataclass(frozen=True)
class GroupRecord:
    """A group to write."""

    payload: bytes
    """Its episodes, encoded."""
    reference: str | None = None
    """The reference answer of its row, as text."""
    advantages: Sequence[float] | None = None
    """One for each episode; None if the group was not trained."""


def write_groups(
    path: Path, groups: Iterable[GroupRecord], *, step: int, split: Split, rewards: Iterable[str] = ()
) -> None:
    """Write the episodes of groups to `path`. Raises OSError as `open` does.

    rewards: labels that get a field in any case, so that all files of a run have the same columns.
    """
    import pyarrow.parquet as pq

    rows: list[_TrajectoryRow] = []
    for group in groups:
        episodes = decode_episodes(group.payload)
        advantages = group.advantages if group.advantages is not None else [None] * len(episodes)
        rows += [
            _TrajectoryRow(episode, index, group.reference, advantage)
            for episode, advantage in zip(episodes, advantages, strict=True)
            for index in range(len(episode.trajectories))
        ]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    try:
        pq.write_table(_table(rows, step, split, rewards), unfinished, compression="zstd")
        sync_file(unfinished)
        unfinished.replace(path)
        sync_folder(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def remove_undone(folder: Path, version: int, evaluated: Iterable[int]) -> None:
    """Remove the files of steps from `version` on, and of evaluations other than `evaluated`: they did not happen.

    Raises OSError as `Path.unlink` does.
    """
    kept = set(evaluated)
    for path in folder.glob("*.parquet"):
        kind, _, number = path.stem.partition("_")
        if kind in {"step", "eval"} and (int(number) >= version if kind == "step" else int(number) not in kept):
            path.unlink()


def _table(rows: Sequence[_TrajectoryRow], step: int, split: Split, rewards: Iterable[str]) -> pa.Table:
    import pyarrow as pa

    # Built column by column: token lists hold millions of numbers, and a Python dict for each row would take longer
    # than writing the file.
    values = [{reward.name: reward.value for reward in row.episode.rewards} for row in rows]
    columns = {
        "step": pa.array([step] * len(rows), pa.int64()),
        "split": pa.array([split] * len(rows), pa.string()),
        "group_id": pa.array([row.episode.group_id for row in rows], pa.int64()),
        "sample": pa.array([row.episode.sample for row in rows], pa.int32()),
        "trajectory": pa.array([row.index for row in rows], pa.int32()),
        "dataset_index": pa.array([row.episode.dataset_index for row in rows], pa.int64()),
        "prompt": pa.array([row.episode.prompt_text for row in rows], pa.string()),
        "completion": pa.array([row.episode.text for row in rows], pa.string()),
        "reference": pa.array([row.reference for row in rows], pa.string()),
        "reward": pa.array([row.episode.total_reward for row in rows], pa.float64()),
        **_struct("rewards", values, rewards),
        **_struct("metrics", [row.episode.metrics for row in rows]),
        "stop_reason": pa.array([row.episode.stop_reason for row in rows], pa.string()),
        "finish_reason": pa.array([row.finish_reason for row in rows], pa.string()),
        "prompt_token_ids": _lists([row.prompt for row in rows], pa.int32()),
        "token_ids": _lists([row.tokens for row in rows], pa.int32()),
        "logprobs": _lists([row.logprobs for row in rows], pa.float32()),
        "weight_versions": _lists([row.versions for row in rows], pa.int32()),
        "advantage": pa.array([row.advantage for row in rows], pa.float64()),
    }
    return pa.table(columns)


def _struct(column: str, rows: Sequence[Mapping[str, float | None]], names: Iterable[str] = ()) -> dict[str, pa.Array]:
    """Return a column with a field for each name; none without names, since a Parquet struct needs a field."""
    import pyarrow as pa

    fields = sorted({*names, *(name for row in rows for name in row)})
    if not fields:
        return {}
    values = [pa.array([row.get(name) for row in rows], pa.float64()) for name in fields]
    return {column: pa.StructArray.from_arrays(values, fields)}


def _lists(rows: Sequence[Sequence[object]], kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    offsets = list(itertools.accumulate((len(row) for row in rows), initial=0))
    flat = pa.array(list(itertools.chain.from_iterable(rows)), kind)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)


class _TrajectoryRow:
    """One trajectory of an episode, split into the prompt that it begins with and everything after it."""

    def __init__(self, episode: Episode, index: int, reference: str | None, advantage: float | None) -> None:
        segments = episode.trajectories[index].segments
        prompted = bool(segments) and segments[0].kind == "prompt"
        rest = segments[1:] if prompted else segments
        self.episode = episode
        self.index = index
        self.reference = reference
        self.advantage = advantage
        self.finish_reason = rest[-1].finish_reason if rest else None
        self.prompt = segments[0].tokens if prompted else []
        self.tokens = [token for segment in rest for token in segment.tokens]
        self.logprobs = [value for segment in rest for value in _or_nulls(segment.logprobs, segment)]
        self.versions: list[int | None] = []
        for segment in rest:
            versions = [version for span in segment.versions for version in [span.version] * span.length]
            self.versions += _or_nulls(versions, segment)


def _or_nulls(values: Sequence[T], segment: Segment) -> Sequence[T | None]:
    """Return `values`; if the segment was not sampled, None for each of its tokens."""
    return values or [None] * len(segment.tokens)
