"""The contract of datasets.

A dataset is any object with `__len__` and `__getitem__(index)` (a torch Dataset, a Hugging Face dataset, a list), or
with `__len__` and `__iter__`; or a class or function that makes one.

Rules:

* A class or function is called with the config's `args`, and with `config` and `tokenizer` if it takes them.
* `setup(config, tokenizer)` or `setup(config)`, if defined, is called exactly once, for instances too.
* The reference answer of a row is `get_reference_answer(index)`, else `query_reference_answer(index)`, else None. If
  the method exists, it is always called. For a row of a `ConcatDataset` or `Subset` (recognised by their attributes,
  without torch), it is the method of the dataset that owns the row.
* `place(index)`, if defined, is where a row comes from (`data/train.jsonl, line 8`), for messages.
* A length is required: the rows of a step are chosen by number, before they are read.
* A dataset without `__getitem__` is read once, in order, into a list. It must yield as many rows as its length says.
* A set has no order, and a mapping (such as a `DatasetDict`) has no row numbers: neither is a dataset.
* Rows must be the same in every process: processes compare a fingerprint of sampled rows.
* Errors that a dataset raises are reported as DatasetError, with the dataset's owner and the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Dataset(Protocol):
    """Rows by number: items that the run's packer understands (text, chat messages, a mapping with `prompt` ...).

    Optional methods: `setup(config, tokenizer)`, called once before the first row is read;
    `get_reference_answer(index)`, which rewards are called with; `place(index)`, the row's file and line for messages.
    """

    def __len__(self) -> int:
        """Number of rows."""

    def __getitem__(self, index: int, /) -> object:
        """Row `index`, 0 <= index < len. It is the same each time it is read."""


class IterableDataset(Protocol):
    """Rows that can only be read from the first to the last. The optional methods are those of `Dataset`."""

    def __len__(self) -> int:
        """Number of rows."""

    def __iter__(self) -> Iterator[object]:
        """The rows, in order."""
