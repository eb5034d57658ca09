"""`hf`: any dataset of the Hugging Face Hub, or local files, through `datasets.load_dataset`.

Rules:

* `path` is a Hub name, a folder, a builder (`json`, `parquet`, `csv`, with `data_files`), a single file of such a
  format, or the output of `Dataset.save_to_disk`.
* A cell of `prompt_column` is text or a list of chat messages. With `chat` or a `system_prompt`, text becomes a
  conversation.
* The reference answer is the row's `reference_column`, if one is given.
"""

from __future__ import annotations

from typing import Any

from rlx_datasets.load import load_rows


class HFDataset:
    """Rows of one split, read lazily from Arrow files on disk."""

    def __init__(
        self,
        path: str,
        name: str | None = None,
        split: str = "train",
        prompt_column: str = "prompt",
        reference_column: str | None = None,
        data_files: str | list[str] | dict[str, Any] | None = None,
        system_prompt: str | None = None,
        chat: bool = False,
        load_args: dict[str, Any] | None = None,
    ) -> None:
        """`load_args` are further keyword arguments of `datasets.load_dataset`."""
        self._rows = load_rows(path, name, split, data_files, load_args or {})
        self._prompt_column = prompt_column
        self._reference_column = reference_column
        self._system_prompt = system_prompt
        self._chat = chat or system_prompt is not None
        for column in filter(None, (prompt_column, reference_column)):
            if column not in self._rows.column_names:
                raise ValueError(f"no column {column!r}; the columns are: {', '.join(self._rows.column_names)}")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> str | list[dict[str, Any]]:
        prompt = self._rows[index][self._prompt_column]
        if not self._chat:
            return prompt  # type: ignore[no-any-return]
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        if self._system_prompt is None or messages[0]["role"] == "system":
            return messages
        return [{"role": "system", "content": self._system_prompt}, *messages]

    def get_reference_answer(self, index: int) -> Any:
        return None if self._reference_column is None else self._rows[index][self._reference_column]
