"""`jsonl` and `parquet`: local files, with the prompt and the reference answer in columns.

Rules:

* They are `hf` for files of one format; prompts and references work as described there.
* `path` is a file, a pattern (`data/*.jsonl`), a list of these, or a folder, which is searched recursively. Relative
  paths are relative to the current folder.
* All files are one split, `train`; `split = "train[:90%]"` and `"train[90%:]"` take parts of it.
"""

from __future__ import annotations

from pathlib import Path

from rlx_datasets.hf import HFDataset

Paths = str | list[str]


def jsonl_dataset(
    path: Paths,
    prompt_column: str = "prompt",
    reference_column: str | None = None,
    split: str = "train",
    system_prompt: str | None = None,
    chat: bool = False,
) -> HFDataset:
    """Read JSON-lines files: one object per line."""
    return HFDataset(
        "json",
        data_files=_files(path, "jsonl"),
        split=split,
        prompt_column=prompt_column,
        reference_column=reference_column,
        system_prompt=system_prompt,
        chat=chat,
    )


def parquet_dataset(
    path: Paths,
    prompt_column: str = "prompt",
    reference_column: str | None = None,
    split: str = "train",
    system_prompt: str | None = None,
    chat: bool = False,
) -> HFDataset:
    """Read Parquet files."""
    return HFDataset(
        "parquet",
        data_files=_files(path, "parquet"),
        split=split,
        prompt_column=prompt_column,
        reference_column=reference_column,
        system_prompt=system_prompt,
        chat=chat,
    )


def _files(path: Paths, ending: str) -> list[str]:
    paths = [path] if isinstance(path, str) else path
    return [str(Path(one) / "**" / f"*.{ending}") if Path(one).is_dir() else one for one in paths]
