"""`math_dapo`: competition mathematics with whole answers, in the rows of DAPO-Math-17k, for the reward `direct_math`.

Rules:

* A row has `prompt`, a list of chat messages, and `reward_model`, whose `ground_truth` is the reference answer.
* The rows contain their own instruction (the last line is to be `Answer: ...`). The option `instruction` replaces it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlx_datasets.load import load_rows
from rlx_datasets.modelscope import modelscope_load_dataset
from rlx_datasets.prompts import Prompt, make_prompt

HUB = "BytedTsinghua-SIA/DAPO-Math-17k"
LEAD = "Solution:"
_OPENING, _REMINDER = "Solve the following math problem", "Remember to put your answer"


class MathDapoDataset:
    """Rows of the Hub's DAPO-Math-17k, or of local files in its format.

    path: a Hub name, a folder, or a file (`.parquet`, `.jsonl`).
    chat: whether a prompt is chat messages (for models with a chat template) or text.
    instruction: replaces the rows' own; None keeps it.
    """

    def __init__(
        self, path: str = HUB, split: str = "train", chat: bool = True, instruction: str | None = None
    ) -> None:
        self._rows = _load(path, split)
        self._chat = chat
        self._instruction = instruction
        columns = list(self._rows[0])
        if not {"prompt", "reward_model"} <= set(columns):
            raise ValueError(f"no columns 'prompt' and 'reward_model'; the columns are: {', '.join(columns)}")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Prompt:
        messages = self._rows[index]["prompt"]
        if self._instruction is not None:
            return make_prompt(self._instruction, _problem(messages), chat=self._chat, lead=LEAD)
        if self._chat:
            return [{"role": message["role"], "content": message["content"]} for message in messages]
        return "\n\n".join([*(message["content"] for message in messages), LEAD])

    def get_reference_answer(self, index: int) -> str:
        return str(self._rows[index]["reward_model"]["ground_truth"])


def _load(path: str, split: str) -> Any:
    rows = None if Path(path).exists() else modelscope_load_dataset(path, split=split)
    return load_rows(path, split=split) if rows is None else rows


def _problem(messages: list[dict[str, str]]) -> str:
    """Return the text between the instruction and the reminder."""
    text = messages[-1]["content"].strip()
    opening, gap, rest = text.partition("\n\n")
    problem, _, reminder = rest.rpartition("\n\n")
    if not (gap and opening.startswith(_OPENING) and reminder.startswith(_REMINDER)):
        raise ValueError(
            f"instruction can replace only what DAPO-Math-17k puts around a problem ({_OPENING!r} ... {_REMINDER!r} "
            f"...), and this row lacks it: {text[:80]!r}"
        )
    return problem.strip()
