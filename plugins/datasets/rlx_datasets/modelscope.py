"""Loads datasets from the ModelScope hub, for networks that can't reach the Hugging Face Hub.

The environment variable `RLX_USE_MODELSCOPE` (`1` or `true`) switches it on; without it nothing is loaded, and the
package `modelscope` isn't needed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rlx import UsageError
from rlx_datasets.load import load_dataset

SWITCH = "RLX_USE_MODELSCOPE"


def modelscope_load_dataset(dataset_name: str, subset_name: str | None = None, split: str | None = None) -> Any:
    """Load rows from ModelScope, or from a local folder; None if `RLX_USE_MODELSCOPE` is off.

    Raises UsageError if it is on and the package `modelscope` is missing, or if it has an invalid value.
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
    """Return whether `RLX_USE_MODELSCOPE` is `1` or `true`; unset, empty, `0` and `false` mean off.

    Raises UsageError for any other value.
    """
    value = os.environ.get(SWITCH, "").strip().lower()
    if value not in {"", "0", "false", "1", "true"}:
        raise UsageError(f"{SWITCH} = {value!r}: set it to 1 or 0.")
    return value in {"1", "true"}
