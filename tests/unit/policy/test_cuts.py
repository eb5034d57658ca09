"""Cuts of a step into batches, against brute force."""

from __future__ import annotations

import itertools
import random

import pytest

from rlx.policy.packing.cuts import Shape, attention_tokens_of, balanced_cuts, work_of


def costs(batch, *, packing, attention_tokens):
    """Return memory (in quarters of a position) and work of a batch, from their definitions."""
    lengths = [shape.length for shape in batch]
    if not packing:
        cells = positions = max(lengths) * len(batch)
        squares = max(lengths) ** 2 * len(batch)
    else:
        prefixes = {shape.group: shape.prefix for shape in batch}
        positions = sum(prefixes.values()) + sum(shape.length - shape.prefix for shape in batch)
        cells, squares = sum(lengths), sum(length**2 for length in lengths)
    return 4 * positions + cells - positions, positions * attention_tokens + squares


def partitions(count):
    """Yield all ways to cut `count` things into ranges of neighbours."""
    for cut_here in itertools.product([False, True], repeat=count - 1):
        edges = [0, *(index for index, cut in enumerate(cut_here, 1) if cut), count]
        yield [range(*pair) for pair in itertools.pairwise(edges)]


def random_shapes(rng, packing):
    shapes = []
    for group in range(rng.randint(1, 3)):
        prefix = rng.choice([0, 3, 40]) if packing else 0
        shapes += [Shape(prefix + rng.choice([1, 2, 9, 30]), prefix, group) for _ in range(rng.randint(1, 4))]
    shapes = shapes[:9]
    return shapes if packing else sorted(shapes, key=lambda shape: -shape.length)


@pytest.mark.parametrize("seed", range(60))
def test_cuts_have_the_smallest_number_and_the_least_largest_work(seed):
    rng = random.Random(seed)
    packing, ranks, budget, tokens = (
        rng.random() < 0.7,
        rng.randint(1, 4),
        rng.randint(1, 120),
        rng.choice([1, 20, 900]),
    )
    shapes = random_shapes(rng, packing)
    found = balanced_cuts(shapes, ranks=ranks, max_tokens=budget, packing=packing, attention_tokens=tokens)
    assert [index for cut in found for index in cut] == list(range(len(shapes)))

    def cost(cut):
        return costs(shapes[cut.start : cut.stop], packing=packing, attention_tokens=tokens)

    sound = [
        cuts for cuts in partitions(len(shapes)) if all(len(cut) == 1 or cost(cut)[0] <= 4 * budget for cut in cuts)
    ]
    fewest = min(map(len, sound))
    allowed = -(-fewest // ranks) * ranks
    assert list(found) in sound
    assert len(found) <= allowed
    least = min(max(cost(cut)[1] for cut in cuts) for cuts in sound if len(cuts) <= allowed)
    assert least <= max(cost(cut)[1] for cut in found) <= least * (1 + 2**-10)
    for cut in found:
        assert work_of(shapes[cut.start : cut.stop], packing=packing, attention_tokens=tokens) == cost(cut)[1]


@pytest.mark.parametrize("seed", range(20))
def test_rounds_of_similar_work_wait_least(seed):
    rng = random.Random(seed)
    works = [rng.randint(1, 100) for _ in range(6)]

    def waits(order):
        return sum(max(order[start : start + 2]) for start in range(0, 6, 2))

    assert waits(sorted(works, reverse=True)) == min(map(waits, itertools.permutations(works)))


def test_a_long_row_weighs_more_than_short_ones_of_the_same_tokens():
    tokens = attention_tokens_of(1024)
    long, short = [Shape(32_768, 0, 0)], [Shape(4096, 0, group) for group in range(8)]
    options = {"packing": True, "attention_tokens": tokens}
    assert work_of(long, **options) > 2.5 * work_of(short, **options)
    shapes = [*long, *(Shape(4096, 0, group) for group in range(1, 17))]
    cuts = balanced_cuts(shapes, ranks=2, max_tokens=65_536, **options)
    assert [len(cut) for cut in cuts] == [1, 16], "by positions it would be 5 and 12"


def test_prompts_that_are_not_shared_cost_their_positions():
    rng = random.Random(0)
    shapes = [Shape(rng.randint(1, 50), 0, group) for group in range(200)]
    for cut in balanced_cuts(shapes, ranks=1, max_tokens=100, packing=True, attention_tokens=10**6):
        assert sum(shape.length for shape in shapes[cut.start : cut.stop]) <= 100
