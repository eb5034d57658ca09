"""How rlx calls a packer, and reads what it made of a batch.

The rules of this part:

* Whatever a packer raises is the packer's: the error names it, and the row.
* A method that a packer leaves to rlx's own classes is not called where rlx knows the result.
* Batches are read back, since the trainer lays out its own. It feeds token ids to the model and nothing else, so a
  column that it would have to leave out is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rlx.errors import PluginError, RlxError, attribute

_RLX_CLASSES = "rlx.packers.base"
_REAL = "attention_mask"


def owner_of(packer: Any) -> str:
    return f"packer {type(packer).__name__}"


@contextmanager
def attribute_to(packer: Any, row: str = "") -> Iterator[None]:
    """Whatever the packer raises names the packer and the row (`row 3 of dataset 'x'`); errors of rlx get the row."""
    try:
        with attribute(owner_of(packer), row or "its work"):
            yield
    except RlxError as error:
        if not row or row in str(error):
            raise
        raise type(error)(f"{row}: {error}") from error


def overrides(packer: Any, *methods: str) -> bool:
    """Whether it has one of these methods itself, and does not leave all of them to rlx's own classes."""
    own = (getattr(packer, name, None) for name in methods)
    return any(method is not None and getattr(method, "__module__", None) != _RLX_CLASSES for method in own)


def batch_rows(
    batch: Any, columns: Mapping[str, Sequence[str]], rows: int, made_by: str
) -> Iterator[tuple[list[int], ...]]:
    """For each of the `rows` rows of a batch, what it holds in each of `columns` (name -> other names it may have).

    Columns are tensors, arrays or lists. Where there is an `attention_mask`, its zeros are left out. Raises
    PluginError.
    """
    if not isinstance(batch, Mapping):
        raise PluginError(f"{made_by} returned a {type(batch).__name__}, not a mapping with {_listed(columns)}.")
    unused = set(batch) - {_REAL} - {alias for names in columns.values() for alias in names}
    if unused:
        raise PluginError(
            f"{made_by} returned {_listed(sorted(unused))}, which the trainer could not use: it feeds token ids to the "
            f"model and nothing else. It must return {_listed(columns)}."
        )
    found = [_column(batch, names, rows, made_by) for names in columns.values()]
    real = _column(batch, (_REAL,), rows, made_by) if _REAL in batch else None
    for row in range(rows):
        lines = [column[row] for column in found]
        keep = real[row] if real is not None else [1] * len(lines[0])
        if {len(line) for line in lines} != {len(keep)}:
            raise PluginError(f"{made_by}: in row {row}, {_listed(columns)} are not of one length.")
        yield tuple([value for value, kept in zip(line, keep, strict=True) if kept] for line in lines)


def _column(batch: Mapping[str, Any], names: Sequence[str], rows: int, made_by: str) -> list[list[int]]:
    name = next((name for name in names if name in batch), None)
    if name is None:
        raise PluginError(f"{made_by} returned no {names[0]!r}; it returned {_listed(batch) or 'an empty mapping'}.")
    column = batch[name].tolist() if hasattr(batch[name], "tolist") else batch[name]
    column = [line.tolist() if hasattr(line, "tolist") else line for line in column]
    if len(column) != rows or not all(isinstance(line, list | tuple) for line in column):
        raise PluginError(f"{made_by}: {name!r} must hold one row of numbers for each of the {rows} samples.")
    return [[int(value) for value in line] for line in column]


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
