"""A hash of rows that is the same in every process that sees the same rows."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any


def digest(rows: list[Any]) -> str:
    """16 hexadecimal digits. Objects unknown to JSON count by their type only: their repr may hold an address."""
    text = json.dumps(rows, sort_keys=True, default=_plain, skipkeys=True)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def spread(size: int, count: int) -> list[int]:
    """Up to `count` of the numbers 0 .. size - 1, evenly spread, first and last included."""
    if size <= count:
        return list(range(size))
    return [i * (size - 1) // (count - 1) for i in range(count)]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    return f"{type(value).__module__}.{type(value).__qualname__}"
