"""All rows of a dataset, against a count by hand."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter

import pytest

from rlx.errors import DatasetError
from rlx.packers.prompt import EmptyPromptError
from rlx.preflight.trials import scan as module
from rlx.preflight.trials.scan import scan


def rows_of(rng, count):
    """Return rows, as token ids or as the error that they raise."""
    kinds = [[1], [1, 2], [2, 1], [3] * 9, [4] * 100, [], OSError]
    return [rng.choice([*kinds, [rng.randrange(1000) for _ in range(rng.randrange(1, 300))]]) for _ in range(count)]


def sequences_of(rows):
    def sequences(index):
        row = rows[index]
        if row is OSError:
            raise DatasetError(f"row {index} raised OSError")
        if not row:
            raise EmptyPromptError(f"row {index}: the prompt is empty")
        return [row]

    return sequences


@pytest.mark.parametrize("seed", range(5))
def test_a_scan_agrees_with_a_count_by_hand(seed):
    rows = rows_of(random.Random(seed), 200)
    found = scan(200, "[dataset]", sequences_of(rows), print)
    good = {index: row for index, row in enumerate(rows) if row is not OSError and row}
    assert dict(found.tokens) == {index: len(row) for index, row in good.items()}
    assert found.bad_rows == 200 - len(good) == len(found.bad)
    assert found.empty_rows == rows.count([])
    seen, repeats = {}, []
    for index, row in good.items():
        if tuple(row) in seen:
            repeats.append((index, seen[tuple(row)]))
        seen.setdefault(tuple(row), index)
    assert found.repeats() == (len(repeats), repeats[: module.LISTED_ROWS])
    histogram = found.histogram()
    assert sum(count for _, _, count in histogram) == len(good)
    for low, high, count in histogram:
        assert count == sum(low <= len(row) <= high for row in good.values())
    assert [low for low, _, _ in histogram[1:]] == [high + 1 for _, high, _ in histogram[:-1]]


def test_sequences_of_a_row_are_kept_apart():
    two = [[[1, 2], [3]], [[1], [2, 3]], [[1, 2], [3]]]
    assert scan(3, "[dataset]", lambda index: two[index], print).repeats() == (1, [(2, 0)])


def test_a_dataset_without_a_good_row_is_described():
    found = scan(30, "[dataset]", sequences_of([OSError] * 30), print)
    assert found.report("[dataset]", 9, "the context") == [
        "[dataset]: 30 rows",
        "  empty: 0",
        "  duplicates: 0",
        "  too long for the context: 0",
        "  can't be used: 30",
        *(f"    row {index} raised OSError" for index in range(20)),
        "    and 10 more",
    ]


def test_progress_is_reported_with_the_time_left(monkeypatch):
    monkeypatch.setattr(module, "PROGRESS_SECONDS", 0.0)
    said = []
    scan(3, "[dataset]", lambda index: [[1]], said.append)
    assert said[1].startswith("tokenised 2 of the 3 rows of [dataset], about ")


def test_memory_does_not_grow_with_the_length_of_rows():
    tracemalloc.start()
    try:
        found = scan(20_000, "[dataset]", lambda index: [[index] * 200], print)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 20_000 * 40
    assert Counter(found.counts) == {200: 20_000}
