"""Fingerprints of datasets: hashes of some rows, which let processes check that they see the same dataset.

Rules:

* A hash is the same in every process that sees the same row, whatever the order of its keys and sets.
* The comparison of two fingerprints names the difference: the number of rows, or the first compared row that differs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from hashlib import blake2b

import msgspec

from rlx.errors import DatasetError

HASHED_ROWS = 16
"""Rows of a dataset that are hashed, spread over it."""
UNREADABLE = "unreadable"
"""The hash of a row that can't be read."""


class Fingerprint(msgspec.Struct, frozen=True):
    """The fingerprint of one dataset."""

    size: int
    """Number of rows."""
    rows: list[str]
    """Hashes of the rows `spread(size, len(rows))`, each with its reference answer."""


class Fingerprints(msgspec.Struct, frozen=True):
    """The fingerprints of a run's datasets."""

    train: Fingerprint
    held_out: Fingerprint | None = None


def fingerprint(size: int, row: Callable[[int], tuple[object, object]]) -> Fingerprint:
    """Return the fingerprint of a dataset of `size` rows; `row` returns a row and its reference answer by number.

    A row for which it raises DatasetError has a hash, too: whether the run can do without it is decided elsewhere.
    """

    def hashed(index: int) -> str:
        try:
            return digest(list(row(index)))
        except DatasetError:
            return UNREADABLE

    return Fingerprint(size, [hashed(index) for index in spread(size, HASHED_ROWS)])


def difference(mine: Fingerprint, other: Fingerprint) -> str | None:
    """Return `row 33 of 100` or `the number of rows: 100 and 99`; None if they are equal."""
    if mine.size != other.size:
        return f"the number of rows: {mine.size} and {other.size}"
    for index, here, there in zip(spread(mine.size, len(mine.rows)), mine.rows, other.rows, strict=True):
        if here != there:
            return f"row {index} of {mine.size}"
    return None


def differences(mine: Fingerprints, other: Fingerprints) -> str | None:
    """Return the first difference in either dataset, as `difference` does."""
    if found := difference(mine.train, other.train):
        return found
    if mine.held_out is None or other.held_out is None:
        return None if mine.held_out == other.held_out else "whether there is a dataset for evaluation"
    found = difference(mine.held_out, other.held_out)
    return found and f"{found}, for evaluation"


def mismatch_message(processes: str, found: str) -> str:
    """Return the error message for `processes` whose fingerprints differ in `found`."""
    return (
        f"{processes} do not see the same dataset; they differ in {found}. Its files must be the same wherever the "
        "run's processes are. Code that draws rows must seed itself, and must not depend on the order of a set, which "
        "differs between processes (unless PYTHONHASHSEED=0 is set)."
    )


def digest(row: object) -> str:
    """Return the hash of a row, as 16 hexadecimal digits.

    Objects that JSON cannot encode are hashed by their type only, since their repr may contain an address.
    """
    text = json.dumps(_ordered(row), default=_json_default)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def spread(size: int, count: int) -> list[int]:
    """Return up to `count` of the numbers 0 .. size - 1, evenly spread, first and last included."""
    if size <= count:
        return list(range(size))
    return [i * (size - 1) // (count - 1) for i in range(count)]


def _ordered(value: object) -> object:
    """Convert the keys of mappings to text and sort them as such: keys of several types can't be compared."""
    if isinstance(value, Mapping):
        return {str(key): _ordered(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [_ordered(part) for part in value]
    return value


def _json_default(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _ordered({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    return f"{type(value).__module__}.{type(value).__qualname__}"
