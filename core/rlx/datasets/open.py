"""What a dataset is, and how rlx opens and reads one.

The rules of this part:

* A dataset is any object with `__len__` and `__getitem__(index)`: a torch Dataset, a Hugging Face dataset, a list; or
  with `__len__` and `__iter__` (rows.py). Or a class or function that makes one: it is called with the config's `args`,
  and with `config` and `tokenizer` where it takes them.
* `setup(config, tokenizer)` or `setup(config)`, where there is one, is called exactly once, for instances too.
* The reference answer of a row is `get_reference_answer(index)`, else `query_reference_answer(index)`, else None. One
  that exists is always called. Rows of a `ConcatDataset` or `Subset` (known by their attributes, without torch) are
  asked of the dataset that owns them.
* Rows must be the same in every process: a fingerprint of sampled rows is compared between them.
* Whatever a dataset raises is reported with the dataset's owner and the row.

Rows by their number, of whatever is a dataset.

The rules of this part:

* What has `__getitem__` is asked for a row when the row is needed.
* What can only be read from its beginning to its end (`__iter__`, no `__getitem__`) is read once, in order, into a
  list, which must hold as many rows as it says.
* A length is needed in any case: which rows make a step is settled by their numbers, before they are read.
* A set has no order, and a mapping (a `DatasetDict`) no row numbers: neither is a dataset.
"""

from __future__ import annotations

import inspect
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from inspect import Parameter
from itertools import islice
from typing import Any

from rlx.config.schema import Config
from rlx.config.sections.data import DatasetConfig
from rlx.errors import ConfigError, DatasetError, attribute
from rlx.fingerprint import Fingerprint, digest, spread
from rlx.plugins.options import Options
from rlx.plugins.session import Plugins
from rlx.plugins.signature import accepted, named, parameters


class DatasetView:
    """An opened dataset: what rlx reads rows through. Made by `open_dataset`."""

    def __init__(self, source: Any, owner: str) -> None:
        self._source = source
        self._owner = owner
        check_shape(source, owner)
        with attribute(owner, "its length", as_=DatasetError):
            self._size = len(source)
        with attribute(owner, "reading its rows", as_=DatasetError):
            self._rows = indexed(source, self._size, owner)

    def __len__(self) -> int:
        return self._size

    @property
    def source(self) -> Any:
        """The dataset itself."""
        return self._source

    def item(self, index: int) -> Any:
        """Row `index` as the packer gets it: prompt text, chat messages, a mapping, or what your own packer takes."""
        with attribute(self._owner, f"row {index}", as_=DatasetError):
            return self._rows[index]

    def reference(self, index: int) -> Any:
        """The reference answer of row `index`; None where the dataset has no such method."""
        with attribute(self._owner, f"the reference answer of row {index}", as_=DatasetError):
            leaf, place = _leaf(self._source, index)
            ask = getattr(leaf, "get_reference_answer", None) or getattr(leaf, "query_reference_answer", None)
            return ask(place) if ask is not None else None

    def where(self, index: int) -> str:
        """How a message speaks of row `index`."""
        return f"row {index} of {self._owner}"

    def sample(self, count: int = 16) -> list[int]:
        """Up to `count` row numbers spread over the dataset, first and last included."""
        return spread(self._size, count)

    def fingerprint(self) -> Fingerprint:
        """The length, and hashes of sampled rows with their references; equal wherever the data are equal."""
        return Fingerprint(self._size, [digest([self.item(index), self.reference(index)]) for index in self.sample()])


def open_dataset(plugins: Plugins, section: DatasetConfig, config: Config, tokenizer: Any) -> DatasetView:
    """The dataset that a section of the config names.

    Raises ConfigError if the section's `args` do not fit, and DatasetError if the dataset can't be made or is empty.
    """
    target, owner = plugins.load("datasets", section.name), plugins.owner("datasets", section.name)
    return make_dataset(target, section.args, config, tokenizer, owner=owner)


def make_dataset(
    factory_or_object: Any, args: Mapping[str, Any], config: Any, tokenizer: Any, *, owner: str = "dataset"
) -> DatasetView:
    """Make (where it is a factory) and set up a dataset.

    Raises ConfigError where `args` does not fit the factory, and DatasetError where the dataset cannot be made, is
    empty, or is none.
    """
    check_dataset_args(factory_or_object, args, owner=owner)
    source = factory_or_object
    if is_factory(source):
        with attribute(owner, "opening it", as_=DatasetError):
            source = source(**offered(source, config, tokenizer), **dataset_options(source).bind(args))
    for leaf in _leaves(source):
        _setup(leaf, config, tokenizer, owner)
    view = DatasetView(source, owner)
    if len(view) == 0:
        raise DatasetError(f"{owner} is empty.")
    return view


def is_factory(thing: Any) -> bool:
    """Whether it makes a dataset (a class or function) or is one."""
    return inspect.isclass(thing) or (callable(thing) and not hasattr(thing, "__getitem__"))


def check_dataset_args(
    factory_or_object: Any, args: Mapping[str, Any], *, owner: str = "dataset", where: str = "[dataset] args"
) -> None:
    """Raises ConfigError where `args` does not fit; opens nothing. `where` is the place in the config."""
    if is_factory(factory_or_object):
        dataset_options(factory_or_object).check(args, where=where, owner=owner)
    elif args:
        raise ConfigError(f"{where}: {owner} is an object, not a class or function: it takes no args.")


def dataset_options(factory: Callable[..., object]) -> Options:
    """The options of a class or function that makes a dataset."""
    return Options(factory, offered=list(offered(factory, None, None)))


def offered(factory: Callable[..., Any], config: Any, tokenizer: Any) -> dict[str, Any]:
    """What rlx fills in by itself: parameters called `config`, `cfg` or `tokenizer`, or annotated as a Config."""
    offers = {}
    for name, parameter in named(factory).items():
        if name in {"config", "cfg"} or _named_config(parameter.annotation):
            offers[name] = config
        elif name == "tokenizer":
            offers[name] = tokenizer
    return offers


def _named_config(annotation: Any) -> bool:
    """Rlx's Config, as a class or as text. Not a `MyConfig`: that may be a model of the dataset's own options."""
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return name.strip("'\"").rpartition(".")[2] == "Config"


def _setup(leaf: Any, config: Any, tokenizer: Any, owner: str) -> None:
    setup = getattr(leaf, "setup", None)
    if not callable(setup):
        return
    with attribute(owner, "its setup", as_=DatasetError):
        if _takes_tokenizer(setup):
            setup(config, tokenizer)
        else:
            setup(config, **accepted(setup, {"tokenizer": tokenizer}))


def _takes_tokenizer(setup: Callable[..., Any]) -> bool:
    """`(config, tokenizer)` and `(config, *rest)` do; `(config)` and `(config, verbose=False)` don't."""
    known = parameters(setup)
    positional = [p for p in known if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]
    if len(positional) >= 2:
        return positional[1].name == "tokenizer" or positional[1].default is Parameter.empty
    return any(p.kind is Parameter.VAR_POSITIONAL for p in known)


def _leaf(source: Any, index: int) -> tuple[Any, int]:
    """The dataset that owns row `index`, and the row's place in it."""
    if _concatenates(source):
        part = bisect_right(source.cumulative_sizes, index)
        start = source.cumulative_sizes[part - 1] if part else 0
        return _leaf(source.datasets[part], index - start)
    if _selects(source):
        return _leaf(source.dataset, source.indices[index])
    return source, index


def _leaves(source: Any) -> Iterator[Any]:
    if _concatenates(source):
        for part in source.datasets:
            yield from _leaves(part)
    elif _selects(source):
        yield from _leaves(source.dataset)
    else:
        yield source


def _concatenates(source: Any) -> bool:
    return hasattr(source, "datasets") and hasattr(source, "cumulative_sizes") and not _is_custom(source)


def _selects(source: Any) -> bool:
    return hasattr(source, "dataset") and hasattr(source, "indices") and not _is_custom(source)


def _is_custom(source: Any) -> bool:
    """A dataset that speaks for itself, though it holds others."""
    return any(hasattr(source, name) for name in ("setup", "get_reference_answer", "query_reference_answer"))


def check_shape(source: Any, owner: str) -> None:
    """Raises DatasetError where it is no dataset."""
    kind = f"{owner} is a {type(source).__name__}"
    if isinstance(source, Mapping):
        keys = ", ".join(repr(key) for key in islice(source, 8))
        raise DatasetError(f"{kind} of {keys or 'nothing'}, and no rows. If these are splits, choose one of them.")
    if isinstance(source, set | frozenset):
        raise DatasetError(f"{kind}, which has no order. Sort it into a list.")
    if not (_gives_rows(source) or hasattr(source, "__iter__")):
        raise DatasetError(
            f"{kind}, which has no __getitem__ and no __iter__. "
            "A dataset is an object with __len__ and __getitem__(index), or __len__ and __iter__."
        )
    if not hasattr(source, "__len__"):
        raise DatasetError(
            f"{kind}, which has no __len__. Give it one, or make a list of its rows: which rows make a step is settled "
            "by their numbers, so a stream without an end can't be used."
        )


def indexed(source: Any, size: int, owner: str) -> Any:
    """`source`, or the list that it was read into. Raises DatasetError where it does not hold `size` rows."""
    if _gives_rows(source):
        return source
    rows = list(islice(source, size + 1))
    if len(rows) != size:
        seen = f"more than {size}" if len(rows) > size else f"{len(rows)}"
        raise DatasetError(f"{owner} says that it has {size} rows, and gave {seen}. Correct its __len__.")
    return rows


def _gives_rows(source: Any) -> bool:
    """Whether it has a `__getitem__` of its own: torch's IterableDataset inherits one that only raises."""
    torch_data = sys.modules.get("torch.utils.data")
    inherited = torch_data.Dataset.__getitem__ if torch_data is not None else None
    return getattr(type(source), "__getitem__", None) not in {None, inherited}
