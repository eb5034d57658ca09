"""The order in which a run reads dataset rows, one epoch after another.

Position p of the run's endless sequence of rows is row number `p % size` in the order of epoch `p // size`. In RL,
positions are group ids. The order depends on the run's seed and the epoch alone, so a resumed run finds the same row at
the same position, and needs to store nothing but positions.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache

EpochOrder = Callable[[int], list[int]]
"""Epoch, counted from 0 -> its rows in order; the same list for the same epoch, in every process and after a resume."""


class RowOrder:
    """Row numbers by position, over endless epochs. All epochs have as many rows as the first."""

    def __init__(self, order: EpochOrder) -> None:
        self._order = lru_cache(maxsize=2)(order)
        self.epoch_rows = len(self._order(0))
        if self.epoch_rows < 1:
            raise ValueError("an epoch needs at least one row")

    def row(self, position: int) -> int:
        """Return the row at a position."""
        epoch, offset = divmod(position, self.epoch_rows)
        return self._order(epoch)[offset]

    def rows(self, start: int, count: int) -> list[int]:
        """Return the rows at positions start .. start + count - 1."""
        return [self.row(position) for position in range(start, start + count)]


def plain_order(size: int, *, seed: int, shuffle: bool) -> EpochOrder:
    """Return the order of all `size` rows: as they are in the dataset, or shuffled anew in each epoch."""

    def order(epoch: int) -> list[int]:
        rows = list(range(size))
        if shuffle:
            random.Random(f"{seed}:{epoch}").shuffle(rows)  # noqa: S311 - reproducible, not secret
        return rows

    return order


def derive_seed(*parts: object) -> int:
    """Return a seed below 2**31 for one purpose, from the parts that name it: `derive_seed(run_seed, "step", 3)`."""
    return random.Random(":".join(str(part) for part in parts)).getrandbits(31)  # noqa: S311
