"""Which keys a resumed run may change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlx.config.changes import ALLOWED, FIXED, changes
from rlx.config.load import load_resolved
from rlx.config.schema import Config
from rlx.errors import ConfigError

FROZEN = Path(__file__).parents[1] / "frozen" / "config_keys.txt"
RUN = {
    "model": {"path": "m"},
    "dataset": {"name": "d", "args": {"high": 9}},
    "rewards": [{"name": "a"}, {"name": "b"}],
    "run": {"steps": 40},
    "rollout": {"vllm": {"max_model_len": 64}},
}


def test_every_key_has_one_place():
    keys = [line.partition(" = ")[0] for line in FROZEN.read_text().splitlines()]
    leaves = {key for key in keys if not any(other.startswith(f"{key}.") for other in keys)}
    assert not set(ALLOWED) & set(FIXED)
    assert not leaves - set(ALLOWED) - set(FIXED), "say in rlx.config.changes whether a resumed run may change these"
    known = {key for key in {*ALLOWED, *FIXED} if not key.startswith("rollout.vllm.")}
    assert known - leaves == {"plugins.enable"}


def resumed(tmp_path, sets, ranks=None, engines=None, **tables):
    config = Config.model_validate(RUN | tables)
    (tmp_path / "config.json").write_text(json.dumps(config.model_dump(by_alias=True, mode="json")))
    return config, load_resolved(tmp_path / "config.json", tmp_path, sets, ranks, engines).config


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("run.steps=60", {"run.steps": (40, 60)}),
        ("run.steps=20", {"run.steps": (40, 20)}),
        ("run.epochs=2", {"run.steps": (40, 100), "run.epochs": (None, 2.0)}),
        ("run.heartbeat_seconds=5", {"run.heartbeat_seconds": (60.0, 5.0)}),
        ("run.launcher=slurm", {"run.launcher": ("local", "slurm")}),
        ('run.loggers=["jsonl"]', {"run.loggers": (["console", "jsonl", "tensorboard"], ["jsonl"])}),
        ("rollout.replicas=2", {"rollout.replicas": (1, 2)}),
        ("rewards.1.timeout_seconds=5", {"rewards.1.timeout_seconds": (60.0, 5.0)}),
        ("checkpoint={every = 5, keep = 0}", {"checkpoint.every": (None, 5), "checkpoint.keep": (2, 0)}),
        ("rollout.vllm.gpu_memory_utilization=0.5", {"rollout.vllm.gpu_memory_utilization": (None, 0.5)}),
        ("policy.parallel.tp=2", {"policy.parallel.tp": (1, 2)}),
        ("policy.env.A=b", {"policy.env": ({}, {"A": "b"})}),
        ("meta.ticket=7", {"meta": ({}, {"ticket": 7})}),
        # Values that the run has already.
        ("run.seed=0", {}),
        ("model.path=m", {}),
        ("dataset.args.high=9", {}),
    ],
)
def test_a_change_that_leaves_the_run_itself_is_made(tmp_path, text, changed):
    old, new = resumed(tmp_path, [text])
    found = changes(old.model_dump(by_alias=True, mode="json"), new.model_dump(by_alias=True, mode="json"))
    assert found == changed


def test_the_short_options_change_a_resumed_run(tmp_path):
    _, new = resumed(tmp_path, [], 2, 3)
    assert (new.policy.parallel.dp_shard, new.rollout.replicas) == (2, 3)


def test_an_evaluation_may_be_added(tmp_path):
    _, new = resumed(tmp_path, ["eval.dataset.name=d", "eval.every=5"])
    assert new.eval is not None
    assert (new.eval.dataset.name, new.eval.every) == ("d", 5)


def test_without_changes_the_config_is_the_same(tmp_path):
    old, new = resumed(tmp_path, [])
    assert new == old


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("model.path=other", "model.path", "the checkpoint's weights"),
        ("model.chat_template=x", "model.chat_template", "the checkpoint's weights"),
        ("dataset.name=e", "dataset.name", "the order of its rows"),
        ("dataset.args.high=10", "dataset.args", "the order of its rows"),
        ("dataset.args.low=1", "dataset.args", "the order of its rows"),
        ("run.seed=1", "run.seed", "every random choice"),
        ("run.name=other", "run.name", "the directory"),
        ("rewards.0.weight=2", "rewards.0.weight", "other scores"),
        ('rewards=[{name = "a"}]', "rewards.1.name", "other scores"),
        ("algorithm.group_size=4", "algorithm.group_size", "the size of a group"),
        ("algorithm.args.kl_coef=0.1", "algorithm.args", "what is learnt"),
        ("policy.optimizer.lr=1e-3", "policy.optimizer.lr", "the optimizer's moments"),
        ("policy.dtype=float32", "policy.dtype", "what the model computes"),
        ("policy.groups_per_step=4", "policy.groups_per_step", "counts groups"),
        ("async.max_staleness=1", "async.max_staleness", "under way"),
        ("rollout.temperature=0.5", "rollout.temperature", "which completions are sampled"),
        ("rollout.vllm.max_model_len=32", "rollout.vllm.max_model_len", "which completions are sampled"),
        ("rollout.vllm.quantization=fp8", "rollout.vllm.quantization", "which completions are sampled"),
        ('plugins.enable=["x"]', "plugins.enable", "a hook may change"),
        ('plugins.enable=[{name = "x"}]', "plugins.enable.0.name", "a hook may change"),
    ],
)
def test_a_change_that_makes_another_run_is_refused_by_its_key(tmp_path, text, key, reason):
    with pytest.raises(ConfigError, match=rf"(?s)A resumed run can't change\n.*  {key}: [^\n]*{reason}.*rlx export"):
        resumed(tmp_path, [text])


def test_all_refused_keys_are_listed(tmp_path):
    with pytest.raises(ConfigError, match=r"can't change\n  run.seed: .*\n  model.path: "):
        resumed(tmp_path, ["run.seed=1", "model.path=x", "run.steps=60"])


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("text", ["run.steps=60", "run.epochs=1"])
def test_a_schedule_fixes_the_length_of_the_run(tmp_path, schedule, text):
    with pytest.raises(ConfigError, match=f"the learning rate of the {schedule} schedule depends on it"):
        resumed(tmp_path, [text], policy={"optimizer": {"schedule": schedule}})


def test_a_run_that_looks_for_its_best_version_keeps_its_evaluation(tmp_path):
    tables = {
        "eval": {"dataset": {"name": "d"}, "every": 2},
        "checkpoint": {"best": {"metric": "eval/accuracy"}},
    }
    assert resumed(tmp_path, ["eval.every=4"], **tables)[1].eval.every == 4
    with pytest.raises(ConfigError, match=r"eval\.limit: \[checkpoint\.best\] compares all evaluations"):
        resumed(tmp_path, ["eval.limit=4"], **tables)


def test_a_key_that_is_not_there_is_an_error_of_the_option(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown key.*from --set run\.step=5"):
        resumed(tmp_path, ["run.step=5"])
