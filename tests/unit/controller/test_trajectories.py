from __future__ import annotations

import pytest

from rlx.controller.records.trajectories import GroupRecord, write_groups
from rlx.episodes import Episode, Reward, Segment, Trajectory, VersionSpan, encode_episodes, single_turn


def episode(sample: int, rewards: list[Reward]) -> Episode:
    spans = [VersionSpan(2, 1), VersionSpan(3, 2)]
    trajectory = single_turn([1, 2], [7, 8, 9], logprobs=[-0.5, -1.0, -1.5], versions=spans, finish_reason="stop")
    return Episode(5, sample, 40, [trajectory], "789", "12", rewards, stop_reason="eos")


def write_episodes(path, episodes, *, step):
    """Write the episodes of one group that was trained without an advantage."""
    write_groups(path, [GroupRecord(encode_episodes(episodes))], step=step, split="train")


def read(path) -> list[dict]:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


def test_a_row_holds_the_sampled_tokens_and_their_rewards(tmp_path):
    path = tmp_path / "trajectories" / "step_00003.parquet"
    rewards = [Reward("exact", 1.0), Reward("judge", 0.5, weight=2.0)]
    group = [episode(0, rewards), episode(1, [Reward("exact", None)])]
    group[0].metrics = {"reward/judge/distance": 3.0}
    record = GroupRecord(encode_episodes(group), "42", [0.5, -0.5])
    write_groups(path, [record], step=3, split="train", rewards=["exact", "later"])
    first, second = read(path)
    location = {"step": 3, "split": "train", "group_id": 5, "sample": 0, "trajectory": 0, "dataset_index": 40}
    texts = {"prompt": "12", "completion": "789", "reference": "42", "stop_reason": "eos", "finish_reason": "stop"}
    scores = {"reward": 2.0, "rewards": {"exact": 1.0, "judge": 0.5, "later": None}, "advantage": 0.5}
    scores["metrics"] = {"reward/judge/distance": 3.0}
    tokens = {"prompt_token_ids": [1, 2], "token_ids": [7, 8, 9], "weight_versions": [2, 3, 3]}
    assert first == location | texts | scores | tokens | {"logprobs": [-0.5, -1.0, -1.5]}
    assert second["reward"] is None
    assert second["rewards"] == {"exact": None, "judge": None, "later": None}
    assert (second["metrics"], second["advantage"]) == ({"reward/judge/distance": None}, -0.5)
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
    assert not {"rewards", "metrics"} & set(first)
    assert (first["reference"], first["advantage"]) == (None, None)


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


def test_pandas_reads_training_and_evaluation_together(tmp_path):
    import pandas

    def record(reward):
        return [GroupRecord(encode_episodes([episode(0, [Reward(reward, 1.0)])]))]

    labels = ["exact", "held_out"]
    write_groups(tmp_path / "eval_00000.parquet", record("held_out"), step=0, split="eval", rewards=labels)
    write_groups(tmp_path / "step_00000.parquet", record("exact"), step=0, split="train", rewards=labels)
    found = pandas.read_parquet(tmp_path)
    assert list(found["split"]) == ["eval", "train"]
    assert list(found["rewards"]) == [{"exact": None, "held_out": 1.0}, {"exact": 1.0, "held_out": None}]
