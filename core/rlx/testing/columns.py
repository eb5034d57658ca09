"""Training samples and batches of any packer, read as columns of integers.

A packer's samples have no fixed form: a mapping, a dataclass, a named tuple, an object with attributes; their columns
are lists, arrays or tensors. What a column is for is known by its name and by what it holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


def columns(sample: Any) -> dict[str, list[int]]:
    """Name -> integers, of every column that holds one row of integers."""
    found = ((name, _row(value)) for name, value in _fields(sample))
    return {name: row for name, row in found if row is not None}


def rows(batch: Any) -> dict[str, list[list[int]]]:
    """Name -> rows of integers, of every column of a batch that holds such."""
    found = ((name, _rows(value)) for name, value in _fields(batch))
    return {name: lines for name, lines in found if lines is not None}


@dataclass(frozen=True)
class Sampled:
    """Where the sampled tokens lie in a sample."""

    tokens: list[int]
    """Of the whole sample."""
    start: int


def find(sample: Any, emitted: Sequence[int]) -> Sampled | None:
    """The column that holds the sampled tokens, one after the other; None where none does."""
    for tokens in columns(sample).values():
        if (start := position(tokens, emitted)) is not None:
            return Sampled(tokens, start)
    return None


def masks(sample: Any) -> dict[str, list[int]]:
    """The columns that say which tokens are trained on."""
    return {name: row for name, row in columns(sample).items() if "mask" in name and "attention" not in name}


def position(tokens: Sequence[int], part: Sequence[int]) -> int | None:
    """Where `part` begins in `tokens`, the last time; None where it does not occur."""
    for start in range(len(tokens) - len(part), -1, -1):
        if list(tokens[start : start + len(part)]) == list(part):
            return start
    return None


def _fields(sample: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(sample, "_asdict"):
        sample = sample._asdict()
    items = sample if isinstance(sample, Mapping) else getattr(sample, "__dict__", {})
    slots = [name for cls in type(sample).__mro__ for name in getattr(cls, "__slots__", ())]
    yield from ((str(name), value) for name, value in items.items())
    yield from ((name, getattr(sample, name)) for name in slots if hasattr(sample, name))


def _row(value: Any) -> list[int] | None:
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list | tuple) and len(value) == 1 and isinstance(value[0], list | tuple):
        value = value[0]  # one sample as a batch of one
    if isinstance(value, list | tuple) and all(isinstance(number, int) for number in value):
        return [int(number) for number in value]
    return None


def _rows(value: Any) -> list[list[int]] | None:
    value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, list | tuple):
        return None
    lines = [_row(line) for line in value]
    return [line for line in lines if line is not None] if lines and None not in lines else None
