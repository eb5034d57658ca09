"""Trajectories as Parquet, one file a step: for people, pandas, DuckDB and `datasets.load_dataset("parquet", ...)`.

One row for each trajectory (a single-turn episode has one). Columns: step, group_id, sample, trajectory,
dataset_index, prompt, completion, reward (None: not scored), rewards (struct: one field for each reward),
stop_reason, finish_reason, prompt_token_ids, token_ids (all that follows the prompt), logprobs and weight_versions
(as many as token_ids; null where a token was not sampled), advantage (null where the trainer did not say).

A file appears whole, by a rename. Reading while the run goes on is safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlx.api.types import Episode, Segment, Trajectory, decode_episodes

if TYPE_CHECKING:
    import pyarrow as pa


def write_groups(path: Path, payloads: Iterable[bytes], *, step: int) -> None:
    """Write the groups' episodes to `path`. Raises OSError where the disk does not take it."""
    episodes = [episode for payload in payloads for episode in decode_episodes(payload)]
    write_episodes(path, episodes, step=step)


def write_episodes(path: Path, episodes: Sequence[Episode], *, step: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = sorted({reward.name for episode in episodes for reward in episode.rewards})
    rows = [_row(episode, index, names, step) for episode in episodes for index in range(len(episode.trajectories))]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    try:
        pq.write_table(pa.Table.from_pylist(rows, schema=_schema(names)), unfinished, compression="zstd")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _schema(rewards: Sequence[str]) -> pa.Schema:
    import pyarrow as pa

    fields: list[Any] = [
        ("step", pa.int64()),
        ("group_id", pa.int64()),
        ("sample", pa.int32()),
        ("trajectory", pa.int32()),
        ("dataset_index", pa.int64()),
        ("prompt", pa.string()),
        ("completion", pa.string()),
        ("reward", pa.float64()),
        ("stop_reason", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_token_ids", pa.list_(pa.int32())),
        ("token_ids", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float32())),
        ("weight_versions", pa.list_(pa.int32())),
        ("advantage", pa.float64()),
    ]
    if rewards:  # Parquet has no struct without fields
        fields.insert(8, ("rewards", pa.struct([(name, pa.float64()) for name in rewards])))
    return pa.schema(fields)


def _row(episode: Episode, index: int, rewards: Sequence[str], step: int) -> dict[str, Any]:
    prompt, rest = _split(episode.trajectories[index])
    named = {reward.name: reward.value for reward in episode.rewards}
    return {
        "step": step,
        "group_id": episode.group_id,
        "sample": episode.sample,
        "trajectory": index,
        "dataset_index": episode.dataset_index,
        "prompt": episode.prompt_text,
        "completion": episode.text,
        "reward": episode.total_reward,
        "rewards": {name: named.get(name) for name in rewards},
        "stop_reason": episode.stop_reason,
        "finish_reason": rest[-1].finish_reason if rest else None,
        "prompt_token_ids": prompt,
        "token_ids": [token for segment in rest for token in segment.tokens],
        "logprobs": [value for segment in rest for value in _padded(segment.logprobs, len(segment.tokens))],
        "weight_versions": [version for segment in rest for version in _versions(segment)],
        "advantage": None,
    }


def _split(trajectory: Trajectory) -> tuple[list[int], list[Segment]]:
    """The prompt that the trajectory begins with, and all that follows."""
    segments = trajectory.segments
    if segments and segments[0].kind == "prompt":
        return segments[0].tokens, segments[1:]
    return [], segments


def _versions(segment: Segment) -> list[int | None]:
    found = [span.version for span in segment.versions for _ in range(span.length)]
    return _padded(found, len(segment.tokens))


def _padded(values: Sequence[Any], length: int) -> list[Any]:
    return list(values) if values else [None] * length
