"""`jsonl` and `parquet`: local files, with the prompt and the reference answer in columns.

Rules:

* Prompts and references work as in `hf`.
* `path` is a file, a pattern (`data/*.jsonl`), a list of these, or a folder, which is searched recursively. A path that
  exists isn't a pattern, whatever characters it has. Relative paths are relative to the current folder.
* All files are one split, `train`; `split = "train[:90%]"` and `"train[90%:]"` take parts of it.
* JSON lines are read as they are in the file (see `json_rows`). Parquet files have types of their own.
"""

from __future__ import annotations

import glob
from pathlib import Path

from rlx_datasets.columns import ColumnDataset
from rlx_datasets.json_rows import JsonRows
from rlx_datasets.load import Rows, load_rows, quiet, take_split

Paths = str | list[str]
_ENDINGS = {"jsonl": ("jsonl", "jsonl.gz", "jsonl.bz2", "jsonl.xz"), "parquet": ("parquet",)}


def jsonl_dataset(
    path: Paths,
    prompt_column: str | None = None,
    reference_column: str | None = None,
    split: str = "train",
    system_prompt: str | None = None,
    chat: bool = False,
) -> ColumnDataset:
    """Read JSON-lines files: one object per line."""
    rows = take_split({"train": JsonRows(_files(path, "jsonl"))}, split)
    return ColumnDataset(rows, prompt_column, reference_column, system_prompt, chat=chat)


def parquet_dataset(
    path: Paths,
    prompt_column: str | None = None,
    reference_column: str | None = None,
    split: str = "train",
    system_prompt: str | None = None,
    chat: bool = False,
) -> ColumnDataset:
    """Read Parquet files."""
    files = _files(path, "parquet")
    _check_parquet(files)
    rows: Rows = load_rows("parquet", split=split, data_files=[glob.escape(file) for file in files])
    return ColumnDataset(rows, prompt_column, reference_column, system_prompt, chat=chat)


def _files(path: Paths, ending: str) -> list[str]:
    """Return the files that `path` means, in order. Raises ValueError if it means none."""
    paths = [path] if isinstance(path, str) else path
    if not paths:
        raise ValueError("path is an empty list")
    return [file for one in paths for file in _files_at(one, ending)]


def _files_at(path: str, ending: str) -> list[str]:
    if "://" in path:
        import datasets

        with quiet():
            return [str(datasets.DownloadManager().download(path))]
    location = Path(path).expanduser()
    if location.is_dir():
        inside = (file for end in _ENDINGS[ending] for file in location.rglob(f"*.{end}"))
        found = sorted(str(file) for file in inside if not _is_hidden(file.relative_to(location)))
        if not found:
            raise ValueError(f"the folder {path} has no file that ends with .{ending}")
        return found
    if location.exists():
        return [str(location)]
    if glob.has_magic(path):
        matches = glob.glob(str(location), recursive=True)  # noqa: PTH207 - pathlib takes no absolute pattern
        if found := sorted(file for file in matches if Path(file).is_file()):
            return found
        raise ValueError(f"no file matches the pattern {path!r}, in {Path.cwd()}")
    raise ValueError(f"the file {path!r} does not exist, in {Path.cwd()}")


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "__")) for part in path.parts)


def _check_parquet(files: list[str]) -> None:
    """Raise ValueError that names a file which isn't Parquet, or has a column twice."""
    import pyarrow
    import pyarrow.parquet

    for file in files:
        try:
            names = pyarrow.parquet.read_schema(file).names
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{file} can't be read as Parquet: {error}") from error
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{file}: the column {twice[0]!r} is there twice")
