from __future__ import annotations

import dataclasses
from types import MappingProxyType

import pytest

from rlx.datasets.open import make_dataset
from rlx.fingerprint import Fingerprint, Fingerprints, difference, differences, digest


def seen(rows):
    return make_dataset(rows, {}, None, None).fingerprint()


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, None),
        ({0: "x"}, "row 0 of 100"),
        ({99: "x", 33: "y"}, "row 33 of 100"),
        ({1: "x"}, None),  # none of the rows that are compared
    ],
)
def test_the_first_compared_row_that_differs_is_named(changed, found):
    rows = [f"row {i}" for i in range(100)]
    other = [changed.get(i, row) for i, row in enumerate(rows)]
    assert difference(seen(rows), seen(other)) == found


def test_another_number_of_rows_comes_first():
    assert difference(seen(["a", "b"]), seen(["b", "c", "d"])) == "the number of rows: 2 and 3"


def test_datasets_for_evaluation_are_compared_too():
    one, other = Fingerprint(1, ["a"]), Fingerprint(1, ["b"])
    assert differences(Fingerprints(one, other), Fingerprints(one, other)) is None
    assert differences(Fingerprints(one), Fingerprints(one)) is None
    assert differences(Fingerprints(one, one), Fingerprints(one, other)) == "row 0 of 1, for evaluation"
    assert differences(Fingerprints(one, one), Fingerprints(other, other)) == "row 0 of 1"
    assert differences(Fingerprints(one, one), Fingerprints(one)) == "whether there is a dataset for evaluation"


@dataclasses.dataclass
class Item:
    prompt: str
    tags: dict


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1: "a", "b": "c", None: 3}, {None: 3, "b": "c", 1: "a"}),
        ({"a": {"y": 1, "x": [{"d": 1, "c": 2}]}}, {"a": {"x": [{"c": 2, "d": 1}], "y": 1}}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        ((1, 2), [1, 2]),
        (Item("a", {"x": 1, "y": 2}), Item("a", {"y": 2, "x": 1})),
    ],
)
def test_what_is_the_same_row_has_one_hash(one, other):
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [({"a": 1}, {"a": 2}), ({1: "a", "b": 2}, {1: "b", "b": 2}), (Item("a", {}), Item("b", {})), ("a", ["a"])],
)
def test_another_row_has_another(one, other):
    assert digest(one) != digest(other)
