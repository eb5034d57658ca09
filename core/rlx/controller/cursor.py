"""Which dataset row a group samples.

A group id is a position: epoch `id // size`, place `id % size` in that epoch's order. The order depends on the run's
seed and the epoch alone, so a resumed run finds the same row for the same id, and nothing but ids has to be
remembered.
"""

from __future__ import annotations

import random
from functools import lru_cache


class Cursor:
    """Row of a position, over epochs without end."""

    def __init__(self, size: int, *, seed: int, shuffle: bool) -> None:
        if size < 1:
            raise ValueError("a dataset needs at least one row")
        self._size = size
        self._seed = seed
        self._shuffle = shuffle
        self._order = lru_cache(maxsize=2)(self._make_order)

    def row(self, position: int) -> int:
        epoch, place = divmod(position, self._size)
        return self._order(epoch)[place] if self._shuffle else place

    def rows(self, start: int, count: int) -> list[int]:
        return [self.row(position) for position in range(start, start + count)]

    def _make_order(self, epoch: int) -> list[int]:
        order = list(range(self._size))
        random.Random(f"{self._seed}:{epoch}").shuffle(order)  # noqa: S311 - must repeat, not surprise
        return order


def derive(*parts: object) -> int:
    """A seed below 2**31 for one purpose, from what names it: `derive(run_seed, "step", 3)`."""
    return random.Random(":".join(str(part) for part in parts)).getrandbits(31)  # noqa: S311
