"""`gsm8k`: grade-school maths, asked so that the answer ends in `#### number`, as the `gsm8k` reward reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlx_datasets.json_rows import JsonRows
from rlx_datasets.load import load_rows, place_of
from rlx_datasets.modelscope import modelscope_load_dataset
from rlx_datasets.prompts import Prompt, make_prompt

INSTRUCTION = "Solve the problem step by step. End with a line that holds only your final answer: #### <number>"


class Gsm8kDataset:
    """Rows with `question` and `answer` (which ends in `#### number`), from the Hub's openai/gsm8k or from a file.

    path: a JSON-lines file to read instead; `split` is ignored then.
    chat: whether a prompt is chat messages (for models with a chat template) or text.
    instruction: how to answer; a system message, or the beginning of the text.
    """

    def __init__(
        self, split: str = "train", path: str | None = None, chat: bool = True, instruction: str = INSTRUCTION
    ) -> None:
        self._rows = _read(Path(path)) if path is not None else _load(split)
        self._chat = chat
        self._instruction = instruction

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Prompt:
        return make_prompt(self._instruction, self._rows[index]["question"], chat=self._chat, lead="Answer:")

    def get_reference_answer(self, index: int) -> str:
        answer: str = self._rows[index]["answer"]
        return answer

    def place(self, index: int) -> str:
        """Return where row `index` is in its file; empty if that is unknown."""
        return place_of(self._rows, index)


def _load(split: str) -> Any:
    rows = modelscope_load_dataset("AI-ModelScope/gsm8k", subset_name="main", split=split)
    return load_rows("openai/gsm8k", "main", split) if rows is None else rows


def _read(path: Path) -> JsonRows:
    rows = JsonRows([path])
    for index, row in enumerate(rows):
        if not {"question", "answer"} <= row.keys():
            raise ValueError(f"{rows.place(index)} needs 'question' and 'answer', but has: {', '.join(row)}")
    return rows
