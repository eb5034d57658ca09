"""Turns the columns of a table into prompts and reference answers; shared by `hf`, `jsonl` and `parquet`.

Rules:

* A cell of `prompt_column` is text or a list of chat messages. With `chat` or a `system_prompt`, text becomes a
  conversation. By default the column is `prompt` or `messages`; if there are both, one must be chosen.
* A row's `tools`, `chat_template_kwargs` and `completion` come along: the item is a mapping then.
* The reference answer is the row's `reference_column`, if one is given.
* Arrow gives each mapping of a file all the keys that any of them has. Those that are None are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlx_datasets.load import Rows, place_of

PROMPT_COLUMNS = ("prompt", "messages")
ALONG = ("tools", "chat_template_kwargs", "completion")
"""Columns that go with the prompt."""


class ColumnDataset:
    """A table's rows as a dataset."""

    def __init__(
        self,
        rows: Rows,
        prompt_column: str | None = None,
        reference_column: str | None = None,
        system_prompt: str | None = None,
        *,
        chat: bool = False,
    ) -> None:
        columns = rows.column_names
        for column in filter(None, (prompt_column, reference_column)):
            if column not in columns:
                raise ValueError(f"no column {column!r}; the columns are: {', '.join(columns)}")
        self._rows = rows
        self._prompt_column = prompt_column or _prompt_column(columns)
        self._reference_column = reference_column
        self._along = [name for name in ALONG if name in columns and name not in (prompt_column, reference_column)]
        self._system_prompt = system_prompt
        self._chat = chat or system_prompt is not None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        row = self._rows[index]
        prompt = self._prompt(without_none(row.get(self._prompt_column)))
        along = {name: without_none(row[name]) for name in self._along if row.get(name) is not None}
        return {"prompt": prompt, **along} if along else prompt

    def get_reference_answer(self, index: int) -> Any:
        return None if self._reference_column is None else without_none(self._rows[index].get(self._reference_column))

    def place(self, index: int) -> str:
        """Return where row `index` is in its file; empty if that is unknown."""
        return place_of(self._rows, index)

    def _prompt(self, prompt: Any) -> Any:
        if not self._chat or not isinstance(prompt, str | list):
            return prompt
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if self._system_prompt is None or (messages and messages[0].get("role") == "system"):
            return messages
        return [{"role": "system", "content": self._system_prompt}, *messages]


def without_none(value: Any) -> Any:
    """Return mappings, at every depth, without the keys that are None."""
    if isinstance(value, Mapping):
        return {key: without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_none(inner) for inner in value]
    return value


def _prompt_column(columns: list[str]) -> str:
    found = [name for name in PROMPT_COLUMNS if name in columns]
    if len(found) > 1:
        raise ValueError(
            "both columns 'prompt' and 'messages' are there: choose one with prompt_column. The columns are: "
            f"{', '.join(columns)}"
        )
    if not found:
        raise ValueError(f"no column 'prompt' or 'messages'; the columns are: {', '.join(columns)}. Set prompt_column")
    return found[0]
