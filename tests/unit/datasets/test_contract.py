"""The built-in datasets, held to the contract that plugin authors test theirs with."""

from __future__ import annotations

import json

import pytest

from rlx.testing import check_dataset
from rlx_datasets import (
    ArithmeticDataset,
    CountdownDataset,
    Gsm8kDataset,
    HFDataset,
    MathDapoDataset,
    ReasoningGymDataset,
    jsonl_dataset,
)

ROWS = [
    {"question": f"{n}+{n}?", "answer": f"#### {2 * n}", "prompt": [{"role": "user", "content": f"{n}+{n}?"}],
     "reward_model": {"ground_truth": str(2 * n)}}
    for n in range(20)
]  # fmt: skip


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


@pytest.mark.parametrize(
    ("dataset", "args"),
    [(ArithmeticDataset, {}), (ArithmeticDataset, {"split": "sft", "declined": 0.3}), (CountdownDataset, {"size": 50})],
)
def test_generated(dataset, args):
    check_dataset(dataset, args=args)


@pytest.mark.parametrize("task", ["gcd", ["chain_sum", "number_sorting"]])
def test_reasoning_gym(task):
    pytest.importorskip("reasoning_gym")
    check_dataset(ReasoningGymDataset, args={"task": task, "size": 50})


@pytest.mark.usefixtures("arrow_cache")
@pytest.mark.parametrize(
    ("dataset", "args"),
    [
        (Gsm8kDataset, {}),
        (MathDapoDataset, {}),
        (jsonl_dataset, {"prompt_column": "question", "reference_column": "answer"}),
        (HFDataset, {"reference_column": "reward_model"}),
    ],
)
def test_of_files(dataset, args, file):
    check_dataset(dataset, args={"path": file, **args})
