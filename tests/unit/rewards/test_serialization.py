from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest

from rlx.rewards.serialization import to_plain, why_unsendable


class Row(Mapping):
    def __init__(self, **columns):
        self.columns = columns

    def __getitem__(self, key):
        return self.columns[key]

    def __iter__(self):
        return iter(self.columns)

    def __len__(self):
        return len(self.columns)


@dataclass
class Item:
    prompt: str


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [1, 2.5, None, "x"], "b": (True, b"y")}, {"a": [1, 2.5, None, "x"], "b": [True, b"y"]}),
        ({3: "a"}, {3: "a"}),
        (np.arange(3), [0, 1, 2]),
        ([np.float32(0.5)], [0.5]),
        (Row(a=1, b=np.ones(2)), {"a": 1, "b": [1.0, 1.0]}),
        (Item("x"), {"prompt": "x"}),
    ],
)
def test_plain_data_survives_serialization(value, expected):
    assert why_unsendable({"item": value}) is None
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(value, enc_hook=to_plain)) == expected


def test_tensors_can_be_sent_and_images_cannot():
    torch = pytest.importorskip("torch")
    image = pytest.importorskip("PIL.Image").new("RGB", (1, 1))
    assert why_unsendable({"item": {"pixels": torch.ones(2, 2)}}) is None
    assert why_unsendable({"reference": None, "item": {"prompt": "?", "images": [image]}}) == (
        "item['images'][0] can't be sent to the processes of rewards: a PIL.Image.Image is not plain data "
        "(text, numbers, lists, mappings, arrays)"
    )


def self_referencing_list():
    rows = []
    rows.append(rows)
    return rows


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "reference can't be sent to the processes of rewards: a builtins.object is not plain data"),
        ([1, {"a": (2, 1j)}], r"reference\[1\]\['a'\]\[1\] can't be sent .*: a builtins.complex"),
        (Row(a=object()), r"reference\['a'\] can't be sent"),
        ({"a": 2**70}, r"reference\['a'\] can't be sent .*ints"),
        (["\ud800"], r"reference\[0\] can't be sent .*surrogates"),
        ({object(): 1}, "reference can't be sent"),
        (self_referencing_list(), "reference can't be sent .*it contains itself, or is nested too deep"),
    ],
)
def test_the_part_that_cannot_be_sent_is_named(value, message):
    import re

    assert re.match(message, why_unsendable({"reference": value, "item": object()}))
