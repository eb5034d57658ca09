"""Every built-in component passes the suite that plugin authors use.

A new entry point of these kinds needs a case in CASES: the keyword arguments of its suite. `files` are written to the
folder in which the test runs.
"""

from __future__ import annotations

import importlib
import io
import json
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlx.testing import Example, check_algorithm, check_dataset, check_packer, check_reward

from ..built_in.rewards.conftest import server as server  # noqa: TID252 - the same scorer that test_http.py asks

CHAT = [{"role": "user", "content": "1+1="}]
QUESTIONS = "".join(json.dumps({"question": f"{i}+1?", "answer": f"I add.\n#### {i + 1}"}) + "\n" for i in range(20))
PROBLEMS = "".join(
    json.dumps({"prompt": [{"role": "user", "content": f"{i}+1?"}], "reward_model": {"ground_truth": str(i + 1)}})
    + "\n"
    for i in range(20)
)
COUNTDOWN = {"numbers": [3, 7, 25], "target": 46}
ROW = {
    "task": "gcd",
    "options": {"seed": 0, "size": 1},
    "index": 0,
    "question": "Find the Greatest Common Divisor (GCD) of these numbers: 777, 912. "
    "Give only the GCD as your final answer.",
}


def parquet(lines: str) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([json.loads(line) for line in lines.splitlines()]), file)
    return file.getvalue()


COLUMNS = {"prompt_column": "question", "reference_column": "answer"}

SCORER = "the server of tests/unit/built_in/rewards/conftest.py"
"""Stands for its URL. It scores a completion by its length."""

SUITES = {"datasets": check_dataset, "rewards": check_reward, "packers": check_packer, "algorithms": check_algorithm}

CASES = {
    "datasets": {
        "arithmetic": [{}, {"args": {"split": "sft", "declined": 0.25, "operation": "-"}}],
        "countdown": [{"args": {"size": 50}}, {"args": {"size": 50, "split": "eval", "chat": False}}],
        "gsm8k": [
            {"files": {"rows.jsonl": QUESTIONS}, "args": {"path": "rows.jsonl", "chat": chat}} for chat in (True, False)
        ],
        "hf": [
            {
                "files": {"rows.jsonl": QUESTIONS},
                "args": {"path": "rows.jsonl", **COLUMNS, "chat": chat},
            }
            for chat in (True, False)
        ],
        "jsonl": [{"files": {"rows.jsonl": QUESTIONS}, "args": {"path": "*.jsonl", **COLUMNS}}],
        "math_dapo": [
            {"files": {"rows.jsonl": PROBLEMS}, "args": {"path": "rows.jsonl", "chat": chat}} for chat in (True, False)
        ],
        "parquet": [{"files": {"rows.parquet": parquet(QUESTIONS)}, "args": {"path": ".", **COLUMNS}}],
        "reasoning_gym": [
            {"args": {"task": "gcd", "size": 50}},
            {"args": {"task": ["chain_sum", "number_sorting"], "size": 50, "split": "eval", "chat": False}},
        ],
    },
    "rewards": {
        "boxed_math": [{"examples": [("\\boxed{\\frac{1}{2}}", "0.5", 1), ("It is 0.5", "0.5", 0)]}],
        "countdown": [
            {"examples": [("<answer>7*3 + 25</answer>", COUNTDOWN, 1), ("<answer>46</answer>", COUNTDOWN, 0)]},
        ],
        "direct_math": [{"examples": [("So.\nAnswer: 42", "42", 1), ("42", "42", -1)]}],
        "exact_match": [
            {"examples": [(" 42\n", "42", 1), ("42.", "42", 0)]},
            {"args": {"pattern": "is (.*)"}, "examples": [("it is A", "A", 1), ("A", "A", 0)]},
        ],
        "format": [{"examples": [("<think>a</think><answer>b</answer>", None, 1), ("<answer>b</answer>", None, 0)]}],
        "gsm8k": [{"examples": [("I add.\n#### 1,000", "#### 1000", 1), ("1000", "#### 1000", 0)]}],
        "http": [{"args": {"url": SCORER}, "examples": [(["a", "bbb"], "gold", [1, 3]), ("bb", None, 2)]}],
        "math": [{"examples": [("$x^2+2x+1$", "(x+1)^2", 1), ("\\boxed{3}", "4", 0)]}],
        "overlong": [
            {
                "args": {"max_response_length": 10, "buffer_length": 4},
                "examples": [
                    Example("a", expected=0, token_ids=[3] * 6),
                    Example("a", expected=-0.5, token_ids=[3] * 8),
                ],
            },
            {"examples": [Example("a", expected=-1, token_ids=[3] * 100_000)]},
        ],
        "reasoning_gym": [
            {"examples": [("<answer>3</answer>", ROW, 1), ("<answer>2</answer>", ROW, 0), ("3", ROW, 0)]},
        ],
        "single_choice": [{"examples": [("<answer>(b)</answer>", "B", 1), ("B or C", "B", 0)]}],
    },
    "packers": {
        "decoder_only_llm": [{"items": ["1+1=", CHAT, {"messages": CHAT}, {"prompt": "1+1=", "completion": "2"}]}],
    },
    "algorithms": {
        "grpo": [{}, {"args": {"scale_rewards": "none", "kl_coef": 0.1}}, {"args": {"ratio": "sampler"}}],
        "sft": [{}],
    },
}  # fmt: skip


def built_in():
    """Return (kind, name, target) of every entry point that has a suite."""
    pyproject = Path(__file__).parents[3] / "pyproject.toml"
    groups = tomllib.loads(pyproject.read_text())["project"]["entry-points"]
    return [(kind, name, target) for kind in SUITES for name, target in groups[f"rlx.{kind}"].items()]


@pytest.mark.usefixtures("arrow_cache")
@pytest.mark.parametrize(("kind", "name", "target"), built_in())
def test_a_built_in_component_keeps_its_contract(kind, name, target, server, tmp_path, monkeypatch):
    cases = CASES[kind].get(name)
    if not cases:
        pytest.fail(
            f"{target} has no case here. Add CASES[{kind!r}][{name!r}] in tests/unit/testing/test_builtins.py: a list "
            f"of dicts, each the arguments of {SUITES[kind].__name__} (and files that it reads, as 'files').",
            pytrace=False,
        )
    monkeypatch.chdir(tmp_path)
    module, _, attribute = target.partition(":")
    component = getattr(importlib.import_module(module), attribute)
    for case in cases:
        for file, text in case.get("files", {}).items():
            Path(file).write_bytes(text if isinstance(text, bytes) else text.encode())
        args = {option: server.url if value is SCORER else value for option, value in case.get("args", {}).items()}
        SUITES[kind](component, **{**{key: value for key, value in case.items() if key != "files"}, "args": args})


def test_every_case_is_for_an_existing_component():
    assert {(kind, name) for kind in CASES for name in CASES[kind]} <= {(kind, name) for kind, name, _ in built_in()}


@pytest.mark.parametrize("kind", SUITES)
def test_a_component_without_a_case_fails_with_instructions(kind, tmp_path, monkeypatch):
    with pytest.raises(pytest.fail.Exception, match=rf"Add CASES\['{kind}'\]\['new'\] in .*test_builtins.py"):
        test_a_built_in_component_keeps_its_contract(kind, "new", "mod:new", None, tmp_path, monkeypatch)
