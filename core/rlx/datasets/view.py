"""Read an opened dataset, by the rules of `rlx.datasets.base`: rows, reference answers, fingerprint."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol, TypeGuard, cast

from rlx.datasets.base import Dataset, IterableDataset
from rlx.errors import DatasetError, attribute
from rlx.fingerprint import Fingerprint, digest, spread


class DatasetView:
    """An opened dataset, through which rlx reads rows. Made by `rlx.datasets.open`."""

    def __init__(self, source: object, owner: str) -> None:
        self._owner = owner
        self._source = checked(source, owner)
        with attribute(owner, "its length", as_=DatasetError):
            self._size = len(self._source)
        with attribute(owner, "reading its rows", as_=DatasetError):
            self._rows = indexed(self._source, self._size, owner)

    def __len__(self) -> int:
        return self._size

    @property
    def source(self) -> object:
        """The dataset itself."""
        return self._source

    def item(self, index: int) -> object:
        """Row `index` as the packer gets it: prompt text, chat messages, a mapping, or what your own packer takes."""
        with attribute(self._owner, f"row {index}", as_=DatasetError):
            return self._rows[index]

    def reference(self, index: int) -> object:
        """The reference answer of row `index`; None if the dataset has no such method."""
        with attribute(self._owner, f"the reference answer of row {index}", as_=DatasetError):
            leaf, leaf_index = _leaf_of(self._source, index)
            get = getattr(leaf, "get_reference_answer", None) or getattr(leaf, "query_reference_answer", None)
            return get(leaf_index) if get is not None else None

    def where(self, index: int) -> str:
        """The name of row `index`, for messages."""
        return f"row {index} of {self._owner}"

    def sample(self, count: int = 16) -> list[int]:
        """Up to `count` row numbers spread over the dataset, first and last included."""
        return spread(self._size, count)

    def fingerprint(self) -> Fingerprint:
        """The length, and hashes of sampled rows with their references; equal for equal data."""
        return Fingerprint(self._size, [digest([self.item(index), self.reference(index)]) for index in self.sample()])


def checked(source: object, owner: str) -> Dataset | IterableDataset:
    """Return `source`. Raises DatasetError if it isn't a dataset."""
    kind = f"{owner} is a {type(source).__name__}"
    if isinstance(source, Mapping):
        keys = ", ".join(repr(key) for key in islice(source, 8))
        raise DatasetError(f"{kind} of {keys or 'nothing'}, and no rows. If these are splits, choose one of them.")
    if isinstance(source, set | frozenset):
        raise DatasetError(f"{kind}, which has no order. Sort it into a list.")
    if not (_has_getitem(source) or hasattr(source, "__iter__")):
        raise DatasetError(
            f"{kind}, which has no __getitem__ and no __iter__. "
            "A dataset is an object with __len__ and __getitem__(index), or __len__ and __iter__."
        )
    if not hasattr(source, "__len__"):
        raise DatasetError(
            f"{kind}, which has no __len__. Give it one, or make a list of its rows: the rows of a step are chosen by "
            "number, so a stream without an end can't be used."
        )
    return cast("Dataset | IterableDataset", source)


def indexed(source: Dataset | IterableDataset, size: int, owner: str) -> Dataset:
    """Return `source`, or the list that it was read into. Raises DatasetError if it does not hold `size` rows."""
    if _has_getitem(source):
        return source
    rows = list(islice(cast("IterableDataset", source), size + 1))
    if len(rows) != size:
        seen = f"more than {size}" if len(rows) > size else f"{len(rows)}"
        raise DatasetError(f"{owner} says that it has {size} rows, and gave {seen}. Correct its __len__.")
    return rows


def leaves(source: object) -> Iterator[object]:
    """Yield the datasets that a `ConcatDataset` or `Subset` is made of; any other dataset itself."""
    if _is_concatenation(source):
        for part in source.datasets:
            yield from leaves(part)
    elif _is_subset(source):
        yield from leaves(source.dataset)
    else:
        yield source


class _Concatenation(Protocol):
    """As torch's ConcatDataset."""

    datasets: Sequence[object]
    cumulative_sizes: Sequence[int]


class _Subset(Protocol):
    """As torch's Subset."""

    dataset: object
    indices: Sequence[int]


def _leaf_of(source: object, index: int) -> tuple[object, int]:
    """Return the dataset that owns row `index`, and the row's number in it."""
    if _is_concatenation(source):
        part = bisect_right(source.cumulative_sizes, index)
        start = source.cumulative_sizes[part - 1] if part else 0
        return _leaf_of(source.datasets[part], index - start)
    if _is_subset(source):
        return _leaf_of(source.dataset, source.indices[index])
    return source, index


def _is_concatenation(source: object) -> TypeGuard[_Concatenation]:
    return hasattr(source, "datasets") and hasattr(source, "cumulative_sizes") and not _has_own_methods(source)


def _is_subset(source: object) -> TypeGuard[_Subset]:
    return hasattr(source, "dataset") and hasattr(source, "indices") and not _has_own_methods(source)


def _has_own_methods(source: object) -> bool:
    """Return whether a dataset has a method that rlx would call, though it holds other datasets."""
    return any(hasattr(source, name) for name in ("setup", "get_reference_answer", "query_reference_answer"))


def _has_getitem(source: object) -> TypeGuard[Dataset]:
    """Return whether it has a `__getitem__` of its own: torch's IterableDataset inherits one that only raises."""
    torch_data = sys.modules.get("torch.utils.data")
    inherited = torch_data.Dataset.__getitem__ if torch_data is not None else None
    return getattr(type(source), "__getitem__", None) not in {None, inherited}
