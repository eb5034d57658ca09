"""`hf`: any dataset of the Hugging Face Hub, or local files, through `datasets.load_dataset`.

Rules:

* `path` is a Hub name, a folder, a builder (`json`, `parquet`, `csv`, with `data_files`), a single file of such a
  format, or the output of `Dataset.save_to_disk`.
* Prompts and reference answers are made of columns by the rules of `columns`.
"""

from __future__ import annotations

from typing import Any

from rlx_datasets.columns import ColumnDataset
from rlx_datasets.load import load_rows


class HFDataset(ColumnDataset):
    """Rows of one split, read lazily from Arrow files on disk."""

    def __init__(
        self,
        path: str,
        name: str | None = None,
        split: str = "train",
        prompt_column: str | None = None,
        reference_column: str | None = None,
        data_files: str | list[str] | dict[str, Any] | None = None,
        system_prompt: str | None = None,
        chat: bool = False,
        load_args: dict[str, Any] | None = None,
    ) -> None:
        """`load_args` are further keyword arguments of `datasets.load_dataset`."""
        rows = load_rows(path, name, split, data_files, load_args or {})
        super().__init__(rows, prompt_column, reference_column, system_prompt, chat=chat)
