"""How boot data travels over a pipe: four bytes of length, big-endian, then the blob."""

from __future__ import annotations

import os

from rlx.errors import RunError

_LENGTH_BYTES = 4


def frame_blob(blob: bytes) -> bytes:
    return len(blob).to_bytes(_LENGTH_BYTES, "big") + blob


def read_blob(descriptor: int) -> bytes:
    """Reads one blob and not a byte more. Raises RunError where the other end closed before it was whole."""
    return _read_exactly(descriptor, int.from_bytes(_read_exactly(descriptor, _LENGTH_BYTES), "big"))


def _read_exactly(descriptor: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = os.read(descriptor, count - len(data))
        if not chunk:
            raise RunError("who started this process went away before its boot data was written")
        data += chunk
    return data
