"""Built-in datasets, one file each; a name is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_WHERE = {
    "ArithmeticDataset": "rlx_datasets.arithmetic",
    "Gsm8kDataset": "rlx_datasets.gsm8k",
    "HFDataset": "rlx_datasets.hf",
}

__all__ = ["ArithmeticDataset", "Gsm8kDataset", "HFDataset"]

if TYPE_CHECKING:
    from rlx_datasets.arithmetic import ArithmeticDataset as ArithmeticDataset
    from rlx_datasets.gsm8k import Gsm8kDataset as Gsm8kDataset
    from rlx_datasets.hf import HFDataset as HFDataset


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'rlx_datasets' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
