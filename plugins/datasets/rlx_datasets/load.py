"""Rows of Hugging Face `datasets`, from the Hub or from disk.

Rules:

* `load_dataset` is the function of `datasets`, except that without a split it returns the rows of the only split
  instead of a `DatasetDict`.
* `load_rows` returns the rows of one split; it also reads the output of `save_to_disk`, and single files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

_BUILDERS: Mapping[str, str] = MappingProxyType(
    {".json": "json", ".jsonl": "json", ".parquet": "parquet", ".csv": "csv", ".arrow": "arrow", ".txt": "text"}
)


def load_dataset(path: str, name: str | None = None, *args: Any, **kwargs: Any) -> Any:
    """Load a dataset; arguments as in `datasets.load_dataset`. Raises ValueError, with the splits, if one must be
    chosen.
    """
    import datasets

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
    import datasets

    folder = Path(path)
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        saved = datasets.load_from_disk(path)
        return _of_split(saved, split) if isinstance(saved, datasets.DatasetDict) else saved
    if folder.suffix in _BUILDERS and folder.is_file():
        path, data_files = _BUILDERS[folder.suffix], str(folder)
    return datasets.load_dataset(path, name, split=split, data_files=data_files, **load_args)


def _of_split(saved: Any, split: str) -> Any:
    if split not in saved:
        raise ValueError(f"no split {split!r}; the splits are: {', '.join(saved)}")
    return saved[split]
