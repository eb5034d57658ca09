"""The exception that ended a process, found in logs of the kinds that processes leave."""

from __future__ import annotations

import pytest

from rlx.logs import LogPart, already_reported, first_exception

ENGINE = "(EngineCore pid=7) ERROR 11-27 06:31:15 [core.py:1512] "
CLIENT = "(MainProcess pid=3) ERROR 11-27 06:31:15 [async_llm.py:906] "


def trace(message, prefix="", *, frames=3):
    lines = ["Traceback (most recent call last):"]
    for number in range(frames):
        lines += [f'  File "/x/y.py", line {number}, in f', "    call()", "    ^^^^^^"]
    return [prefix + line for line in [*lines, *message.splitlines()]]


HEAD_DIM = "RuntimeError: Unsupported CPU attention configuration: head_dim=16 isa=2 kv_cache_idx=0"
DEAD = "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above)"
NOISE = [
    "/usr/lib/python3.11/multiprocessing/resource_tracker.py:254: UserWarning: resource_tracker: There appear to be 1",
    "  warnings.warn('resource_tracker: There appear to be %d '",
]
INFO = [f"(EngineCore pid=7) INFO 11-27 06:31:14 [core.py:{number}] loading" for number in range(200)]
VALIDATION = """pydantic_core._pydantic_core.ValidationError: 1 validation error for SchedulerConfig
max_num_seqs
  Input should be greater than or equal to 1 [type=greater_than_equal, input_value=0, input_type=int]"""
CXX = [
    "terminate called after throwing an instance of 'c10::Error'",
    "  what():  Check failed: numel() > 0",
    "",
]

LOGS = {
    "an engine's core, its client, the replica": (
        [*INFO, f"{ENGINE}EngineCore encountered a fatal error.", *trace(HEAD_DIM, ENGINE), *trace(DEAD, CLIENT)]
        + ["(MainProcess pid=3) INFO 11-27 06:31:15 [utils.py:1] [shutdown]"] * 6
        + ["ProcessDied: vLLM engine of rollout-0 died", *NOISE],
        HEAD_DIM,
    ),
    "a core that fails at its start": (
        [*trace("ValueError: no kernel", ENGINE), "", *trace("RuntimeError: Engine core initialization failed. See")],
        "ValueError: no kernel",
    ),
    "a message of several lines": (trace(VALIDATION), VALIDATION),
    "a chain": (
        [
            *trace("KeyError: 'x'"),
            "",
            "The above exception was the direct cause of ...",
            "",
            *trace("RunError: x"),
        ],
        "KeyError: 'x'",
    ),
    "an exception that the process has survived": (
        [*trace("OSError: a hook"), *INFO, *trace("MemoryError")],
        "MemoryError",
    ),
    "a process that is killed long after one": ([*trace("OSError: a hook"), *INFO], ""),
    "an engine that is killed": ([*INFO, *trace(DEAD, CLIENT)], ""),
    "a message without a traceback": (["loading", "RunError: nothing is trained"], "RunError: nothing is trained"),
    "torch's prefix": (trace("torch.OutOfMemoryError: CUDA", "[rank0]: "), "torch.OutOfMemoryError: CUDA"),
    "a crash in C": (["x", "Fatal Python error: Aborted", "", "Thread 0x1:"], "Fatal Python error: Aborted"),
    "a C++ exception": ([*INFO, *CXX], "Check failed: numel() > 0"),
    "a torn traceback": (trace("x")[:3], ""),
    "an exception with a name of its own": (trace("rlx.errors.OutOfLuck: 7 left"), "rlx.errors.OutOfLuck: 7 left"),
    "no exception": (["line 1", "warning: something: else"], ""),
    "nothing": ([], ""),
}


@pytest.mark.parametrize("name", LOGS)
def test_the_first_exception_of_a_failure_is_found(name):
    lines, expected = LOGS[name]
    assert first_exception(lines).splitlines() == expected.splitlines()


def test_a_long_message_is_cut():
    assert len(first_exception(trace("ValueError: " + "x" * 10_000))) == 600


def test_lines_of_earlier_attempts_do_not_count(tmp_path):
    path = tmp_path / "rollout-0.log"
    path.write_text("\n".join(trace("ValueError: of attempt 1")) + "\n")
    part = LogPart.from_now(path)
    assert (part.first_exception(), part.last_lines()) == ("", [])
    with path.open("a") as file:
        file.write("started\n" + "\n".join(trace("ValueError: of attempt 2")))
    assert part.first_exception() == "ValueError: of attempt 2"
    assert part.last_lines(1) == ["ValueError: of attempt 2"]
    assert LogPart.from_now(tmp_path / "none").last_lines() == []


@pytest.mark.parametrize(
    ("line", "code", "expected"),
    [
        ("KeyError: 'x'", 1, True),
        ("ProcessDied: rank 1 ended: KeyError: 'x'", 1, True),
        ("KeyError: 'y'", 1, False),
        ("ConfigError: the model has no such head", 2, True),
    ],
)
def test_what_was_reported_is_not_repeated(line, code, expected):
    reported = "policy: rank 1 ended: KeyError: 'x'\nthe model has no such head"
    assert already_reported([line], code, reported) is expected
