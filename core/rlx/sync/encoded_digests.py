"""Digests of tensors as bytes, in messages. The controller compares them, and imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

_BYTES = 8


def encode(digests: Iterable[int]) -> bytes:
    """Return digests as bytes, 8 for each."""
    return b"".join(value.to_bytes(_BYTES, "little", signed=True) for value in digests)


def differing(one: bytes, other: bytes) -> list[int]:
    """Return the indices at which two lists of encoded digests of the same length differ."""
    return [at // _BYTES for at in range(0, len(one), _BYTES) if one[at : at + _BYTES] != other[at : at + _BYTES]]
