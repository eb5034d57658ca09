"""Built-in datasets, one file each.

Names are imported when they are first used. `columns`, `json_rows`, `load`, `modelscope` and `prompts` are shared by
several datasets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlx import lazy_exports

_WHERE = {
    "ArithmeticDataset": "rlx_datasets.arithmetic",
    "CountdownDataset": "rlx_datasets.countdown",
    "Gsm8kDataset": "rlx_datasets.gsm8k",
    "HFDataset": "rlx_datasets.hf",
    "MathDapoDataset": "rlx_datasets.math_dapo",
    "ReasoningGymDataset": "rlx_datasets.reasoning_gym",
    "jsonl_dataset": "rlx_datasets.files",
    "load_dataset": "rlx_datasets.load",
    "modelscope_load_dataset": "rlx_datasets.modelscope",
    "parquet_dataset": "rlx_datasets.files",
}

__all__ = [*_WHERE]  # noqa: PLE0604 - the keys are strings

if TYPE_CHECKING:
    from rlx_datasets.arithmetic import ArithmeticDataset as ArithmeticDataset
    from rlx_datasets.countdown import CountdownDataset as CountdownDataset
    from rlx_datasets.files import jsonl_dataset as jsonl_dataset
    from rlx_datasets.files import parquet_dataset as parquet_dataset
    from rlx_datasets.gsm8k import Gsm8kDataset as Gsm8kDataset
    from rlx_datasets.hf import HFDataset as HFDataset
    from rlx_datasets.load import load_dataset as load_dataset
    from rlx_datasets.math_dapo import MathDapoDataset as MathDapoDataset
    from rlx_datasets.modelscope import modelscope_load_dataset as modelscope_load_dataset
    from rlx_datasets.reasoning_gym import ReasoningGymDataset as ReasoningGymDataset
else:
    __getattr__, __dir__ = lazy_exports(__name__, _WHERE)
