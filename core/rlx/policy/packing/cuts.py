"""Cut the sequences of a step into batches: each within the memory budget, all of them of similar work.

Costs of a batch, in positions:

* Memory: its positions, and a quarter of the cells by which attention holds more than those. Attention gathers a shared
  prompt into each of its sequences, and keeps queries, keys, values and outputs of all cells for the backward pass.
  These are at most a quarter of what a decoder layer keeps for a position: about 4 of 16 hidden sizes, and less with
  grouped keys or a wide MLP.
* Work: its positions, and for each sequence the square of its length divided by `attention_tokens`, the length at which
  attention takes as long as the rest of the layer. Attention computes a shared prompt for each of its sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

_CELL_SHARE = 4
"""Cells that take as much memory as a position."""


class Shape(NamedTuple):
    """A sequence: its tokens, and how many of these it shares with neighbours of the same group."""

    length: int
    prefix: int
    group: int


def attention_tokens_of(hidden_size: int) -> int:
    """Return the length of a sequence at which attention takes as long as the rest of a decoder layer.

    For each token a layer of hidden size H multiplies by 12 H^2 weights, and causal attention over n tokens does the
    work of H n (Kaplan et al. 2020, table 1, halved for the mask).
    """
    return 12 * hidden_size


def balanced_cuts(
    shapes: Sequence[Shape], *, ranks: int, max_tokens: int, packing: bool, attention_tokens: int
) -> list[range]:
    """Cut `shapes` into ranges of neighbours. Each is a batch of memory `max_tokens` at most, or a single sequence.

    Their number is the smallest possible, rounded up to a multiple of `ranks`. Of all ways to cut into no more batches
    than that, the largest batch has the least work (to a thousandth).
    """
    cuts = _Cuts(shapes, max_tokens * _CELL_SHARE, packing, attention_tokens)
    first = cuts.within(None)
    if not first:
        return []
    allowed = -(-len(first) // ranks) * ranks
    low = max(cuts.work(range(index, index + 1)) for index in range(len(shapes)))
    high = max(map(cuts.work, first))
    while high - low > low >> 10:
        middle = (low + high) // 2
        if len(cuts.within(middle)) <= allowed:
            high = middle
        else:
            low = middle + 1
    return cuts.within(high)


def work_of(shapes: Sequence[Shape], *, packing: bool, attention_tokens: int) -> int:
    """Return the work of one batch, in units of 1 / `attention_tokens` positions."""
    return _Cuts(shapes, 0, packing, attention_tokens).work(range(len(shapes)))


class _Cuts:
    """Greedy cuts: no other cut within the same limits has fewer batches, since a part never costs more than the whole.

    memory: limit of a batch, in cells.
    """

    def __init__(self, shapes: Sequence[Shape], memory: int, packing: bool, attention_tokens: int) -> None:
        self._shapes = shapes
        self._memory = memory
        self._packing = packing
        self._attention_tokens = attention_tokens

    def within(self, work: int | None) -> list[range]:
        """Return the batches if none may have more than this work; None for no limit."""
        starts: list[int] = []
        used_memory = used_work = 0
        for index in range(len(self._shapes)):
            first = starts[-1] if starts else index
            memory, added = self._added(index, first)
            fits = used_memory + memory <= self._memory and (work is None or used_work + added <= work)
            if starts and fits:
                used_memory, used_work = used_memory + memory, used_work + added
            else:
                starts.append(index)
                used_memory, used_work = self._added(index, index)
        return [range(start, end) for start, end in pairwise([*starts, len(self._shapes)])]

    def work(self, batch: range) -> int:
        return sum(self._added(index, batch.start)[1] for index in batch)

    def _added(self, index: int, first: int) -> tuple[int, int]:
        """Return the memory and the work that sequence `index` adds to a batch that begins with sequence `first`."""
        length, prefix, group = self._shapes[index]
        if not self._packing:
            # As long as the batch's longest: planning takes the longest sequences first.
            width = self._shapes[first].length
            return width * _CELL_SHARE, width * (self._attention_tokens + width)
        shares = index > first and self._shapes[index - 1].group == group
        positions = length - prefix if shares else length
        memory = (_CELL_SHARE - 1) * positions + length
        return memory, positions * self._attention_tokens + length * length
