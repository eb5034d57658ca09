"""Read an opened dataset, by the rules of `rlx.datasets.base`: rows, reference answers, fingerprint."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol, TypeGuard, cast

from rlx.datasets.base import Dataset, IterableDataset
from rlx.errors import DatasetError, attribute
from rlx.fingerprint import HASHED_ROWS, Fingerprint, fingerprint, spread


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
        """Return row `index` as the packer gets it: prompt text, chat messages, a mapping, or the packer's own form."""
        with attribute(self._owner, f"row {index}", as_=DatasetError):
            return self._rows[index]

    def reference(self, index: int) -> object:
        """Return the reference answer of row `index`; None if the dataset has no method for it."""
        with attribute(self._owner, f"the reference answer of row {index}", as_=DatasetError):
            leaf, leaf_index = _leaf_of(self._source, index)
            get = getattr(leaf, "get_reference_answer", None) or getattr(leaf, "query_reference_answer", None)
            return get(leaf_index) if get is not None else None

    def where(self, index: int) -> str:
        """Return the name of row `index`, for messages, with its place in a file if the dataset knows it."""
        leaf, leaf_index = _leaf_of(self._source, index)
        place = getattr(leaf, "place", None)
        with attribute(self._owner, f"the place of row {index}", as_=DatasetError):
            found = place(leaf_index) if callable(place) else None
        name = f"row {index} of {self._owner}"
        return f"{name}, {found}" if found and isinstance(found, str) else name

    def sample(self, count: int = HASHED_ROWS) -> list[int]:
        """Return up to `count` row numbers spread over the dataset, the first and the last included."""
        return spread(self._size, count)

    def fingerprint(self) -> Fingerprint:
        """Return the length, and hashes of sampled rows with their reference answers; equal for equal data."""
        return fingerprint(self._size, self.pair)

    def pair(self, index: int) -> tuple[object, object]:
        """Return a row and its reference answer. Raises DatasetError."""
        return self.item(index), self.reference(index)


def checked(source: object, owner: str) -> Dataset | IterableDataset:
    """Return `source`. Raises DatasetError if it isn't a dataset."""
    kind = f"{owner} is a {type(source).__name__}"
    if isinstance(source, Mapping):
        keys = ", ".join(repr(key) for key in islice(source, 8))
        raise DatasetError(f"{kind} with the keys {keys or '(none)'}, and has no rows. If they are splits, choose one.")
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
    """Return `source` if it has `__getitem__`, else its rows as a list. Raises DatasetError if they aren't `size`."""
    if _has_getitem(source):
        return source
    rows = list(islice(cast("IterableDataset", source), size + 1))
    if len(rows) != size:
        seen = f"more than {size}" if len(rows) > size else f"{len(rows)}"
        raise DatasetError(f"{owner} has a length of {size}, but it yielded {seen} rows. Correct its __len__.")
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
    """The attributes by which torch's ConcatDataset is recognised and read."""

    datasets: Sequence[object]
    cumulative_sizes: Sequence[int]


class _Subset(Protocol):
    """The attributes by which torch's Subset is recognised and read."""

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
    """Return whether a dataset that holds others has methods for rlx to call. If so, it is used as one dataset."""
    return any(hasattr(source, name) for name in ("setup", "get_reference_answer", "query_reference_answer"))


def _has_getitem(source: object) -> TypeGuard[Dataset]:
    """Return whether `source` has a working `__getitem__`: torch's IterableDataset inherits one that only raises."""
    torch_data = sys.modules.get("torch.utils.data")
    inherited = torch_data.Dataset.__getitem__ if torch_data is not None else None
    return getattr(type(source), "__getitem__", None) not in {None, inherited}
