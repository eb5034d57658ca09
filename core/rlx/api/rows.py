"""Rows by their number, of whatever is a dataset.

The rules of this part:

* What has `__getitem__` is asked for a row when the row is needed.
* What can only be read from its beginning to its end (`__iter__`, no `__getitem__`) is read once, in order, into a
  list, which must hold as many rows as it says.
* A length is needed in any case: which rows make a step is settled by their numbers, before they are read.
* A set has no order, and a mapping (a `DatasetDict`) no row numbers: neither is a dataset.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import islice
from typing import Any

from rlx.errors import DatasetError


def check_shape(source: Any, owner: str) -> None:
    """Raises DatasetError where it is no dataset."""
    kind = f"{owner} is a {type(source).__name__}"
    if isinstance(source, Mapping):
        keys = ", ".join(repr(key) for key in islice(source, 8))
        raise DatasetError(f"{kind} of {keys or 'nothing'}, and no rows. If these are splits, choose one of them.")
    if isinstance(source, set | frozenset):
        raise DatasetError(f"{kind}, which has no order. Sort it into a list.")
    if not (_gives_rows(source) or hasattr(source, "__iter__")):
        raise DatasetError(
            f"{kind}, which has no __getitem__ and no __iter__. "
            "A dataset is an object with __len__ and __getitem__(index), or __len__ and __iter__."
        )
    if not hasattr(source, "__len__"):
        raise DatasetError(
            f"{kind}, which has no __len__. Give it one, or make a list of its rows: which rows make a step is settled "
            "by their numbers, so a stream without an end can't be used."
        )


def indexed(source: Any, size: int, owner: str) -> Any:
    """`source`, or the list that it was read into. Raises DatasetError where it does not hold `size` rows."""
    if _gives_rows(source):
        return source
    rows = list(islice(source, size + 1))
    if len(rows) != size:
        seen = f"more than {size}" if len(rows) > size else f"{len(rows)}"
        raise DatasetError(f"{owner} says that it has {size} rows, and gave {seen}. Correct its __len__.")
    return rows


def _gives_rows(source: Any) -> bool:
    """Whether it has a `__getitem__` of its own: torch's IterableDataset inherits one that only raises."""
    torch_data = sys.modules.get("torch.utils.data")
    inherited = torch_data.Dataset.__getitem__ if torch_data is not None else None
    return getattr(type(source), "__getitem__", None) not in {None, inherited}
