"""Datasets of the ModelScope hub, for where the Hugging Face Hub can't be reached.

The rule of this part: the environment variable `RLX_USE_MODELSCOPE` (`1` or `true`) is the switch; without it nothing
is loaded, and no ModelScope package is needed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rlx import UsageError
from rlx_datasets.load import load_dataset

SWITCH = "RLX_USE_MODELSCOPE"


def modelscope_load_dataset(dataset_name: str, subset_name: str | None = None, split: str | None = None) -> Any:
    """The rows that ModelScope has under that name, or those of a local folder; None where the switch is off.

    Raises UsageError where the switch is on and the package `modelscope` is missing, or the switch is neither on nor
    off.
    """
    if not modelscope_is_on():
        return None
    if Path(dataset_name).exists():
        return load_dataset(dataset_name, subset_name, split=split)
    try:
        from modelscope.msdatasets import MsDataset
    except ImportError as error:
        raise UsageError(
            f"{SWITCH} is set, but the package modelscope can't be imported ({error}). "
            "pip install 'modelscope[datasets]', or unset the variable to load from the Hugging Face Hub."
        ) from error
    return MsDataset.load(dataset_name, subset_name=subset_name, split=split)


def modelscope_is_on() -> bool:
    """What the switch says; unset, empty, `0` and `false` are off."""
    value = os.environ.get(SWITCH, "").strip().lower()
    if value not in {"", "0", "false", "1", "true"}:
        raise UsageError(f"{SWITCH} = {value!r}: set it to 1 or 0.")
    return value in {"1", "true"}
