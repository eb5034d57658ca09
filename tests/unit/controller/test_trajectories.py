from __future__ import annotations

import pytest

from rlx.controller.records.trajectories import write_episodes, write_groups
from rlx.episodes import Episode, Reward, Segment, Trajectory, VersionSpan, encode_episodes, single_turn


def episode(sample: int, rewards: list[Reward]) -> Episode:
    spans = [VersionSpan(2, 1), VersionSpan(3, 2)]
    trajectory = single_turn([1, 2], [7, 8, 9], logprobs=[-0.5, -1.0, -1.5], versions=spans, finish_reason="stop")
    return Episode(5, sample, 40, [trajectory], "789", "12", rewards, stop_reason="eos")


def read(path) -> list[dict]:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


def test_a_row_holds_the_sampled_tokens_and_their_rewards(tmp_path):
    path = tmp_path / "trajectories" / "step_00003.parquet"
    rewards = [Reward("exact", 1.0), Reward("judge", 0.5, weight=2.0)]
    write_groups(path, [encode_episodes([episode(0, rewards), episode(1, [Reward("exact", None)])])], step=3)
    first, second = read(path)
    location = {"step": 3, "group_id": 5, "sample": 0, "trajectory": 0, "dataset_index": 40}
    texts = {"prompt": "12", "completion": "789", "stop_reason": "eos", "finish_reason": "stop"}
    scores = {"reward": 2.0, "rewards": {"exact": 1.0, "judge": 0.5}, "advantage": None}
    tokens = {"prompt_token_ids": [1, 2], "token_ids": [7, 8, 9], "weight_versions": [2, 3, 3]}
    assert first == location | texts | scores | tokens | {"logprobs": [-0.5, -1.0, -1.5]}
    assert second["reward"] is None
    assert second["rewards"] == {"exact": None, "judge": None}
    assert [file.name for file in path.parent.iterdir()] == ["step_00003.parquet"]


def test_observed_tokens_have_no_logprobs_or_versions(tmp_path):
    segments = [
        Segment("prompt", [1]),
        Segment("sampled", [2], [-0.5], [VersionSpan(0, 1)]),
        Segment("observed", [3, 4]),
    ]
    write_episodes(tmp_path / "x.parquet", [Episode(0, 0, 0, [Trajectory(segments), single_turn([9], [8])])], step=0)
    first, second = read(tmp_path / "x.parquet")
    assert first["token_ids"] == [2, 3, 4]
    assert first["logprobs"] == [-0.5, None, None]
    assert first["weight_versions"] == [0, None, None]
    assert (second["trajectory"], second["logprobs"]) == (1, [None])
    assert "rewards" not in first


@pytest.mark.parametrize("rows", [0, 3])
def test_pandas_can_read_the_file(tmp_path, rows, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import pandas

    path = tmp_path / "x.parquet"
    write_episodes(path, [episode(sample, [Reward("exact", 1.0)]) for sample in range(rows)], step=0)
    assert list(pandas.read_parquet(path)["sample"]) == list(range(rows))


def test_datasets_can_read_the_file(tmp_path):
    from datasets import load_dataset

    path = tmp_path / "x.parquet"
    write_episodes(path, [episode(sample, [Reward("exact", 1.0)]) for sample in range(3)], step=0)
    found = load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert found[1]["token_ids"] == [7, 8, 9]
    assert found[1]["rewards"] == {"exact": 1.0}
