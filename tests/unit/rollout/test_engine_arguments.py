from __future__ import annotations

import pytest

from rlx.config.schema import Config
from rlx.rollout.engine_arguments import engine_arguments, engine_environment


def _config(device="cpu", **rollout):
    sections = {"run": {"device": device}, "policy": {"parallel": {"dp_shard": 2}}, "rollout": rollout}
    return Config.model_validate({"model": {"path": "m"}, "dataset": {"name": "d"}, **sections})


def test_the_configs_environment_overrides_the_defaults():
    environment = engine_environment(_config(env={"OMP_NUM_THREADS": "3", "MINE": "1"}), 0)
    assert (environment["OMP_NUM_THREADS"], environment["MINE"]) == ("3", "1")
    assert environment["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"


@pytest.mark.parametrize(("index", "devices"), [(0, "2,3"), (1, "4,5")])
def test_engines_use_the_devices_after_those_of_the_policy(monkeypatch, index, devices):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    config = _config("cuda", replicas=2, tensor_parallel=2)
    assert engine_environment(config, index)["CUDA_VISIBLE_DEVICES"] == devices


@pytest.mark.parametrize(("index", "devices"), [(0, "6,7"), (1, "GPU-a,9")])
def test_devices_are_counted_among_those_that_rlx_itself_may_see(monkeypatch, index, devices):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 5,6,7,GPU-a,9")
    config = _config("cuda", replicas=2, tensor_parallel=2)
    assert engine_environment(config, index)["CUDA_VISIBLE_DEVICES"] == devices


def test_the_size_of_the_cache_in_bytes_is_not_overridden_by_the_default_variable():
    assert engine_environment(_config(), 0)["VLLM_CPU_KVCACHE_SPACE"] == "1"
    sized = {"vllm": {"kv_cache_memory_bytes": 2**28}}
    assert "VLLM_CPU_KVCACHE_SPACE" not in engine_environment(_config(**sized), 0)
    explicit = engine_environment(_config(**sized, env={"VLLM_CPU_KVCACHE_SPACE": "2"}), 0)
    assert explicit["VLLM_CPU_KVCACHE_SPACE"] == "2"


def test_cpu_engines_are_not_assigned_devices():
    assert "CUDA_VISIBLE_DEVICES" not in engine_environment(_config(), 1)


def test_every_engine_draws_noise_of_its_own():
    """Replicas, attempts, and a run and its resume; the same one has the same seed."""
    config = _config()
    starts = [
        {"index": index, "attempt": attempt, "resumed_from": resumed}
        for index in range(3)
        for attempt in (1, 2)
        for resumed in (None, "checkpoints/step_00002", "checkpoints/step_00004")
    ]
    seeds = [engine_arguments(config, **start)["seed"] for start in starts]
    assert len(set(seeds)) == len(starts)
    assert seeds == [engine_arguments(config, **start)["seed"] for start in starts]
    assert all(0 <= seed < 2**31 for seed in seeds)
