from __future__ import annotations

import dataclasses
from types import MappingProxyType

import pytest

from rlx.datasets.open import make_dataset
from rlx.fingerprint import Fingerprint, Fingerprints, difference, differences, digest


def fingerprint_of(rows):
    return make_dataset(rows, {}, None, None).fingerprint()


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, None),
        ({0: "x"}, "row 0 of 100"),
        ({99: "x", 33: "y"}, "row 33 of 100"),
        ({1: "x"}, None),  # row 1 is not among the compared rows
    ],
)
def test_the_first_compared_row_that_differs_is_named(changed, found):
    rows = [f"row {i}" for i in range(100)]
    other = [changed.get(i, row) for i, row in enumerate(rows)]
    assert difference(fingerprint_of(rows), fingerprint_of(other)) == found


def test_a_different_number_of_rows_is_reported_first():
    assert difference(fingerprint_of(["a", "b"]), fingerprint_of(["b", "c", "d"])) == "the number of rows: 2 and 3"


def test_evaluation_datasets_are_compared_too():
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
def test_equal_rows_have_equal_digests(one, other):
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [({"a": 1}, {"a": 2}), ({1: "a", "b": 2}, {1: "b", "b": 2}), (Item("a", {}), Item("b", {})), ("a", ["a"])],
)
def test_different_rows_have_different_digests(one, other):
    assert digest(one) != digest(other)


def test_a_row_that_raises_has_a_fingerprint():
    class Torn:
        def __init__(self, torn):
            self.torn = torn

        def __len__(self):
            return 3

        def __getitem__(self, index):
            if index in self.torn:
                raise ValueError(f"torn at {id(self)}")
            return "a"

    assert fingerprint_of(Torn({1})) == fingerprint_of(Torn({1}))
    assert difference(fingerprint_of(Torn({1})), fingerprint_of(Torn(set()))) == "row 1 of 3"
