"""Which dataset row a group samples.

A group id is a position: epoch `id // size`, place `id % size` in that epoch's order. The order depends on the run's
seed and the epoch alone, so a resumed run finds the same row for the same id, and nothing but ids has to be
remembered.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache

Order = Callable[[int], list[int]]
"""Epoch, counted from 0 -> its rows in order; the same list for the same epoch, in every process and after a resume."""


class Cursor:
    """Row of a position, over epochs without end. All epochs have as many rows as the first."""

    def __init__(self, order: Order) -> None:
        self._order = lru_cache(maxsize=2)(order)
        self.epoch_rows = len(self._order(0))
        if self.epoch_rows < 1:
            raise ValueError("an epoch needs at least one row")

    def row(self, position: int) -> int:
        epoch, place = divmod(position, self.epoch_rows)
        return self._order(epoch)[place]

    def rows(self, start: int, count: int) -> list[int]:
        return [self.row(position) for position in range(start, start + count)]


def plain_order(size: int, *, seed: int, shuffle: bool) -> Order:
    """All rows: as they are, or in a new order each epoch."""

    def order(epoch: int) -> list[int]:
        rows = list(range(size))
        if shuffle:
            random.Random(f"{seed}:{epoch}").shuffle(rows)  # noqa: S311 - must repeat, not surprise
        return rows

    return order


def derive(*parts: object) -> int:
    """A seed below 2**31 for one purpose, from what names it: `derive(run_seed, "step", 3)`."""
    return random.Random(":".join(str(part) for part in parts)).getrandbits(31)  # noqa: S311
