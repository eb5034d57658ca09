from __future__ import annotations

import datetime

import pytest

from rlx.preflight.checks.problems import Problems
from rlx.preflight.engine.arguments import check_engine_arguments, engine_argument_types


def _found(**arguments):
    problems = Problems()
    sound = check_engine_arguments(arguments, problems)
    return sound, str(problems.error("x.toml")) if problems else ""


def test_vllms_arguments_and_their_types_are_read_from_its_source():
    types = engine_argument_types()
    assert len(types) > 150
    assert (types["enforce_eager"], types["max_num_seqs"]) == ("bool", "int | None")
    assert "enable_log_requests" in types, "one of AsyncEngineArgs alone"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("enforce_eager", "no", 'expected true or false, got "no" (text)'),
        ("enforce_eager", 1, "expected true or false, got 1"),
        ("max_num_seqs", True, "expected an integer, got true"),
        ("max_num_seqs", 1.5, "expected an integer, got 1.5"),
        ("max_model_len", "x", 'expected an integer, got "x" (text)'),
        ("gpu_memory_utilization", "0.5", "expected a number, got"),
        ("load_format", 3, None),
        ("served_model_name", {}, "expected text or a list, got a table"),
        ("speculative_config", "junk", 'expected a table, got "junk" (text)'),
        ("max_num_batched_tokens", datetime.date(2026, 1, 1), "expected an integer, got 2026-01-01"),
        ("kv_cache_memory_bytes", 0, "must be at least 1, got 0"),
        ("kv_cache_memory_bytes", -1, "must be at least 1, got -1"),
        ("max_num_seq", 3, "vLLM has no such engine argument. Did you mean 'max_num_seqs'?"),
        ("gpu_memory_utilization", 1, None),
        ("max_num_seqs", 128, None),
        ("enforce_eager", False, None),
        ("quantization", "fp8", 'quantization = "fp8": rlx can\'t work with it: an engine with quantised'),
        ("quantization", "junk", "can't receive the policy's"),
        ("enable_lora", True, "rlx trains and sends whole models, not adapters"),
        ("enable_lora", False, None),
        ("pipeline_parallel_size", 2, "[rollout] tensor_parallel"),
        ("pipeline_parallel_size", 1, None),
        ("data_parallel_size", 2, "use [rollout] replicas"),
        ("nnodes", 2, "on one machine"),
        ("override_generation_config", {"top_k": 1}, "completions are sampled with the temperature and max_tokens of"),
        ("override_generation_config", {}, None),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused(name, value, expected):
    sound, error = _found(**{name: value, "seed_of_nothing": 1, "max_logprobs": 3})
    assert "seed_of_nothing: vLLM has no such engine argument." in error
    assert "max_logprobs" in sound
    assert (name in sound) == (expected is None)
    if expected is not None:
        assert f"[rollout.vllm] {name}" in error
        assert expected in error
