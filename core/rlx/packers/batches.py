"""Call a packer, and read back the batches that it collates.

Rules:

* An error that a packer raises names the packer and the row.
* A method that a packer inherits from rlx's own classes is not called if rlx knows the result.
* Batches are read back row by row, because the trainer lays out its own. The trainer feeds token ids to the model and
  nothing else, so a column that it can't use is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rlx.errors import PluginError, RlxError, attribute

_RLX_CLASSES = "rlx.packers.base"
_ATTENTION_MASK = "attention_mask"


def owner_of(packer: object) -> str:
    """Return the packer's name for messages: `packer MyPacker`."""
    return f"packer {type(packer).__name__}"


@contextmanager
def attribute_to(packer: object, row: str = "") -> Iterator[None]:
    """Add the packer and the row (`row 3 of dataset 'x'`) to errors; to errors of rlx itself, only the row."""
    try:
        with attribute(owner_of(packer), row or "its work"):
            yield
    except RlxError as error:
        if not row or row in str(error):
            raise
        raise type(error)(f"{row}: {error}") from error


def overrides(packer: object, *methods: str) -> bool:
    """Return whether the packer has at least one of these methods that isn't inherited from rlx's own classes."""
    own = (getattr(packer, name, None) for name in methods)
    return any(method is not None and getattr(method, "__module__", None) != _RLX_CLASSES for method in own)


def to_list(value: object) -> object:
    """Convert a tensor or array to nested lists; return anything else unchanged."""
    return value.tolist() if hasattr(value, "tolist") else value


def batch_rows(
    batch: object, columns: Mapping[str, Sequence[str]], rows: int, made_by: str
) -> Iterator[tuple[list[int], ...]]:
    """Yield, for each of the `rows` rows of a batch, its values in each of `columns` (name -> names it may have).

    Columns are tensors, arrays or lists, one row for each sample. Positions at which an `attention_mask` is 0 are left
    out. Raises PluginError.
    """
    if not isinstance(batch, Mapping):
        raise PluginError(f"{made_by} returned a {type(batch).__name__}, not a mapping with {_listed(columns)}.")
    unused = set(batch) - {_ATTENTION_MASK} - {alias for names in columns.values() for alias in names}
    if unused:
        raise PluginError(
            f"{made_by} returned {_listed(sorted(unused))}, which the trainer can't use: it feeds token ids to the "
            f"model and nothing else. It must return {_listed(columns)}."
        )
    found = [_column(batch, names, rows, made_by) for names in columns.values()]
    attended = _column(batch, (_ATTENTION_MASK,), rows, made_by) if _ATTENTION_MASK in batch else None
    for row in range(rows):
        lines = [column[row] for column in found]
        keep = attended[row] if attended is not None else [1] * len(lines[0])
        if {len(line) for line in lines} != {len(keep)}:
            raise PluginError(f"{made_by}: in row {row}, {_listed(columns)} are not of the same length.")
        yield tuple([value for value, kept in zip(line, keep, strict=True) if kept] for line in lines)


def _column(batch: Mapping[str, object], names: Sequence[str], rows: int, made_by: str) -> list[list[int]]:
    name = next((name for name in names if name in batch), None)
    if name is None:
        raise PluginError(f"{made_by} returned no {names[0]!r}; it returned {_listed(batch) or 'an empty mapping'}.")
    column = to_list(batch[name])
    found = [to_list(line) for line in column] if isinstance(column, Iterable) else []
    lines = [line for line in found if isinstance(line, list | tuple)]
    if not len(lines) == len(found) == rows:
        raise PluginError(f"{made_by}: {name!r} must hold one row of numbers for each of the {rows} samples.")
    return [[int(value) for value in line] for line in lines]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
