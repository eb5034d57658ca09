"""Tokenise all rows of a dataset, and describe what was found: `rlx check --data`.

Rules:

* A row takes 16 bytes of memory, however long it is. The reasons are kept of the first rows that can't be used.
* Progress is reported every few seconds, with the time left.
* Ctrl-C ends it at once.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from rlx.errors import UsageError, first_line
from rlx.packers.prompt import EmptyPromptError

PROGRESS_SECONDS = 5.0
KEPT_ROWS = 1000
"""Rows that can't be used and that are kept with the reason."""
LISTED_ROWS = 20
BAR_CHARACTERS = 40
UNUSABLE = -1

Sequences = Callable[[int], Sequence[Sequence[int]]]
"""Row -> token ids of its prompt (RL), or of its trajectories (SFT). Raises UsageError."""


class RowTokens(Mapping[int, int]):
    """Row -> tokens, for the rows that can be used."""

    def __init__(self, counts: array[int]) -> None:
        self._counts = counts

    def __getitem__(self, row: int) -> int:
        if not 0 <= row < len(self._counts) or self._counts[row] == UNUSABLE:
            raise KeyError(row)
        return self._counts[row]

    def __iter__(self) -> Iterator[int]:
        return (row for row, count in enumerate(self._counts) if count != UNUSABLE)

    def __len__(self) -> int:
        return len(self._counts) - self._counts.count(UNUSABLE)


@dataclass
class Scan:
    """All rows of a dataset."""

    counts: array[int] = field(default_factory=lambda: array("q"))
    """Tokens of each row, or UNUSABLE."""
    hashes: array[int] = field(default_factory=lambda: array("Q"))
    """Of the token ids of each row."""
    bad: dict[int, UsageError] = field(default_factory=dict)
    """The first rows that can't be used, with the reason."""
    bad_rows: int = 0
    empty: list[int] = field(default_factory=list)
    """The first rows with an empty prompt. They are among the `bad`."""
    empty_rows: int = 0

    @property
    def tokens(self) -> RowTokens:
        return RowTokens(self.counts)

    def add(self, sequences: Sequence[Sequence[int]]) -> None:
        """Add the next row."""
        self.counts.append(max(map(len, sequences)))
        digest = blake2b(digest_size=8)
        for sequence in sequences:
            digest.update(array("q", [len(sequence), *sequence]).tobytes())
        self.hashes.append(int.from_bytes(digest.digest(), "little"))

    def add_bad(self, error: UsageError) -> None:
        """Add the next row, which can't be used."""
        row = len(self.counts)
        self.counts.append(UNUSABLE)
        self.hashes.append(0)
        self.bad_rows += 1
        if len(self.bad) < KEPT_ROWS:
            self.bad[row] = error
        if isinstance(error, EmptyPromptError):
            self.empty_rows += 1
            self.empty += [row][: max(0, LISTED_ROWS - len(self.empty))]

    def repeats(self) -> tuple[int, list[tuple[int, int]]]:
        """Return how many rows have the tokens of an earlier row, and the first of them, each with that row."""
        import numpy

        hashes = numpy.frombuffer(self.hashes, numpy.uint64)
        rows = numpy.flatnonzero(numpy.frombuffer(self.counts, numpy.int64) != UNUSABLE)
        if not len(rows):
            return 0, []
        _, first, inverse = numpy.unique(hashes[rows], return_index=True, return_inverse=True)
        earlier = rows[first[inverse]]
        later = numpy.flatnonzero(earlier != rows)
        return len(later), [(int(rows[index]), int(earlier[index])) for index in later[:LISTED_ROWS]]

    def histogram(self) -> list[tuple[int, int, int]]:
        """Return (least, most, rows) of each range of lengths, from a power of two to the next."""
        found = Counter(count.bit_length() for count in self.counts if count != UNUSABLE)
        if not found:
            return []
        sizes = range(min(found), max(found) + 1)
        return [(1 << size >> 1, max((1 << size) - 1, 0), found[size]) for size in sizes]

    def report(self, table: str, most: int | None, named: str) -> list[str]:
        """Return lines for people. `most`: tokens that a row may have, and `named`, what sets this limit."""
        import numpy

        counts = numpy.frombuffer(self.counts, numpy.int64)
        known = numpy.sort(counts[counts != UNUSABLE])
        lines = [f"{table}: {len(counts):,} rows"]
        if len(known):
            shares = {"median": 50, "90 %": 90, "99 %": 99}
            middle = ", ".join(f"{name} {known[(len(known) - 1) * share // 100]:,}" for name, share in shares.items())
            lines.append(f"  tokens: shortest {known[0]:,}, {middle}, longest {known[-1]:,}, sum {known.sum():,}")
            largest = max(rows for _, _, rows in self.histogram())
            for low, high, rows in self.histogram():
                bar = "#" * -(-rows * BAR_CHARACTERS // largest)
                lines.append(f"  {f'{low:,} to {high:,}':>24} {rows:>12,}  {bar}".rstrip())
        lines.append(_listed("empty", self.empty_rows, [f"row {row}" for row in self.empty]))
        count, pairs = self.repeats()
        lines.append(_listed("duplicates", count, [f"row {row} is row {earlier}" for row, earlier in pairs]))
        if most is not None:
            long = numpy.flatnonzero(counts > most)
            shown = [f"row {row} has {counts[row]:,}" for row in long[:LISTED_ROWS]]
            lines.append(_listed(f"too long for {named}", len(long), shown))
        lines.append(_listed("can't be used", self.bad_rows, []))
        lines += [f"    {first_line(error)}" for error in list(self.bad.values())[:LISTED_ROWS]]
        if self.bad_rows > LISTED_ROWS:
            lines.append(f"    and {self.bad_rows - LISTED_ROWS:,} more")
        return lines


def scan(rows: int, table: str, sequences: Sequences, say: Callable[[str], None]) -> Scan:
    """Tokenise `rows` rows. `say` gets the progress, as text."""
    found = Scan()
    began = reported = time.monotonic()
    for row in range(rows):
        try:
            found.add(sequences(row))
        except UsageError as error:
            found.add_bad(error.with_traceback(None))
        if (now := time.monotonic()) - reported >= PROGRESS_SECONDS:
            reported, left = now, (now - began) / (row + 1) * (rows - row - 1)
            say(f"tokenised {row + 1:,} of the {rows:,} rows of {table}, about {left:,.0f} s left")
    return found


def _listed(name: str, count: int, shown: Sequence[str]) -> str:
    more = f", and {count - len(shown):,} more" if shown and count > len(shown) else ""
    return f"  {name}: {count:,}" + (f": {', '.join(shown)}{more}" if shown else "")
