"""Rows of Hugging Face `datasets`, from the Hub or from disk.

Rules:

* `load_dataset` is the function of `datasets`, except that without a split it returns the rows of the only split
  instead of a `DatasetDict`.
* `load_rows` returns the rows of one split; it also reads the output of `save_to_disk`, and single files.
* JSON files are read by `json_rows`, and the cells of CSV files stay text: the readers of `datasets` guess types, and
  make dates of text. With `features` or options for JSON (`load_args`) they are left to `datasets`.
* The progress bars and log lines of `datasets` are hidden; its errors are turned into their cause.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from rlx_datasets.json_rows import JsonRows

_BUILDERS: Mapping[str, str] = MappingProxyType(
    {
        ".json": "json",
        ".jsonl": "json",
        ".ndjson": "json",
        ".parquet": "parquet",
        ".csv": "csv",
        ".tsv": "csv",
        ".arrow": "arrow",
        ".txt": "text",
    }
)
_PACKED = {".gz", ".bz2", ".xz"}
_OF_LOADING = {"verification_mode", "keep_in_memory", "save_infos", "num_proc"}
"""Options of `datasets.load_dataset` that `datasets.load_dataset_builder` doesn't have."""
_SPLIT_NAMES = re.compile(r"(?:^|\+)\s*(\w[\w.-]*)")


class Rows(Protocol):
    """Rows by number, as mappings."""

    @property
    def column_names(self) -> list[str]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


class Part:
    """Some of the rows of another `Rows`."""

    def __init__(self, rows: Rows, indices: Sequence[int]) -> None:
        self._rows = rows
        self._indices = indices
        self.column_names = rows.column_names

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Any:
        return self._rows[self._indices[index]]

    def place(self, index: int) -> str:
        """Return where row `index` is; empty if that is unknown."""
        return place_of(self._rows, self._indices[index])


def place_of(rows: object, index: int) -> str:
    """Return where row `index` is: `data/train.jsonl, line 8`; empty if the rows don't know."""
    place = getattr(rows, "place", None)
    return str(place(index)) if callable(place) else ""


def load_dataset(path: str, name: str | None = None, *args: Any, **kwargs: Any) -> Any:
    """Load a dataset; arguments as in `datasets.load_dataset`. Raises ValueError, with the splits, if one must be
    chosen.
    """
    import datasets

    with quiet():
        loaded = datasets.load_dataset(path, name, *args, **kwargs)
    if not isinstance(loaded, Mapping):
        return loaded
    if len(loaded) != 1:
        raise ValueError(f"{path!r} has the splits {', '.join(loaded)}; ask for one of them: split={min(loaded)!r}")
    return next(iter(loaded.values()))


def load_rows(
    path: str,
    name: str | None = None,
    split: str = "train",
    data_files: str | list[str] | dict[str, Any] | None = None,
    load_args: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    """Load the rows of one split.

    path: a Hub name, a folder, a builder with `data_files`, a single file, or the output of `save_to_disk`.
    """
    folder = Path(path)
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return _saved(path, split)
    if (builder := _builder_of(folder)) is not None and folder.is_file():
        if builder == "json" and not load_args:
            return take_split({"train": JsonRows([folder])}, split)
        path, data_files = builder, [glob.escape(str(folder))]
        if ".tsv" in folder.suffixes:
            load_args = {"sep": "\t", **load_args}
    with quiet():
        return _load(path, name, split, data_files, load_args)


def take_split(splits: Mapping[str, Rows], split: str) -> Rows:
    """Return the rows that `split` means, such as `train` or `train[:90%]`. Raises ValueError for an unknown one."""
    if split in splits:
        return splits[split]
    unknown = [name for name in _SPLIT_NAMES.findall(split) if name not in splits]
    if unknown:
        raise ValueError(f"no split {unknown[0]!r}; the splits are: {', '.join(splits)}")
    import datasets

    taken = datasets.ReadInstruction.from_spec(split).to_absolute({name: len(rows) for name, rows in splits.items()})
    names = {part.splitname for part in taken}
    if len(names) > 1:
        raise ValueError(f"split = {split!r} joins several splits; take one of: {', '.join(splits)}")
    rows = splits[names.pop()]
    return Part(rows, [index for part in taken for index in range(part.from_, part.to)])


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the progress bars and log lines of `datasets`, and raise ValueError with the cause where it says no more
    than that an error occurred.
    """
    import datasets
    from datasets.exceptions import DatasetGenerationError

    verbosity, bars = datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    except DatasetGenerationError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ValueError(f"{type(cause).__name__}: {cause}") from error
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not bars:
            datasets.enable_progress_bars()


def _load(
    path: str,
    name: str | None,
    split: str,
    data_files: str | list[str] | dict[str, Any] | None,
    load_args: Mapping[str, Any],
) -> Any:
    import datasets

    if "streaming" not in load_args:
        of_builder = {key: value for key, value in load_args.items() if key not in _OF_LOADING}
        builder = datasets.load_dataset_builder(path, name, data_files=data_files, **of_builder)
        config, kind = builder.config, type(builder).__module__
        plain = getattr(config, "features", None) is None and config.data_files
        if plain and kind == "datasets.packaged_modules.json.json" and config.field is None and not load_args:
            return _splits(config.data_files, split, JsonRows)
        if plain and kind == "datasets.packaged_modules.csv.csv":
            return _splits(config.data_files, split, partial(_read_csv, options=config.pd_read_csv_kwargs))
    return datasets.load_dataset(path, name, split=split, data_files=data_files, **load_args)


def _splits(data_files: Mapping[Any, Sequence[str]], split: str, read: Callable[[list[str]], Rows]) -> Rows:
    """Return the rows that `split` means, reading only the files of the splits that it names."""
    import datasets

    files = {str(name): list(found) for name, found in data_files.items()}
    named = [name for name in _SPLIT_NAMES.findall(split) if name in files] or list(files)
    manager = datasets.DownloadManager()
    return take_split({name: read([str(file) for file in manager.download(files[name])]) for name in named}, split)


def _read_csv(files: list[str], options: Mapping[str, Any]) -> Rows:
    """Read CSV files with all cells as text; an empty one is None. Raises ValueError if a column is there twice."""
    import datasets
    import pandas

    given = {**options, "chunksize": None, "dtype": str, "keep_default_na": False, "na_values": [""]}
    tables = []
    for file in files:
        if options.get("names") is None and options.get("header") == "infer":
            head = pandas.read_csv(file, **{**given, "header": None, "nrows": 1})
            names = [name for name in head.iloc[0] if isinstance(name, str)]
            if twice := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"{file}: the column {twice[0]!r} is there twice")
        tables.append(pandas.read_csv(file, **given))
    table = pandas.concat(tables, ignore_index=True)
    text = datasets.Features({name: datasets.Value("string") for name in table.columns})
    rows: Rows = datasets.Dataset.from_pandas(table, features=text, preserve_index=False)
    return rows


def _builder_of(file: Path) -> str | None:
    """Return the builder of `datasets` for a file's ending, compressed or not."""
    endings = [ending for ending in file.suffixes if ending not in _PACKED]
    return _BUILDERS.get(endings[-1]) if endings else None


def _saved(path: str, split: str) -> Any:
    """Return the rows of a split of what `save_to_disk` wrote."""
    import datasets

    with quiet():
        saved = datasets.load_from_disk(path)
    if not isinstance(saved, datasets.DatasetDict):
        return saved
    if split not in saved:
        raise ValueError(f"no split {split!r}; the splits are: {', '.join(saved)}")
    return saved[split]
