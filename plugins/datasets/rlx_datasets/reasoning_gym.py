"""`reasoning_gym`: any task of the package reasoning-gym, scored by the reward of the same name.

Rules:

* Row i of a task is drawn from the seed `seed + i`. Held-out rows (`split = "eval"`) have seeds that training never
  reaches; a task with few different questions may still ask the same one in both.
* Several tasks alternate: a, b, a, b ...
* The reference answer identifies the row: the reward generates it again and asks the task's own scorer.
* A few tasks (ransom_note is one) draw from sets of text, whose order differs between processes: they need
  `PYTHONHASHSEED=0` in the environment. Without it the run fails with "do not see the same dataset", or in the reward.
"""

from __future__ import annotations

from typing import Any, Literal

from rlx import UsageError, did_you_mean
from rlx_datasets.prompts import THINK_AND_ANSWER, Prompt, make_prompt

EVAL_SEED = 2**31
"""Added to the seed for held-out rows; no task takes seeds of 2**32 and more."""

COMPOSITE = "composite"
"""reasoning-gym's mixture of tasks, which isn't a task itself."""

Split = Literal["train", "eval"]


class ReasoningGymDataset:
    """`size` rows of a task, or of several tasks together.

    options: options of the task, named as in its config class in reasoning-gym; only for a single task.
    chat: whether a prompt is chat messages (for models with a chat template) or text.
    instruction: how to answer; a system message, or the beginning of the text.
    """

    def __init__(
        self,
        task: str | list[str],
        split: Split = "train",
        size: int = 10_000,
        seed: int = 0,
        options: dict[str, Any] | None = None,
        chat: bool = True,
        instruction: str = THINK_AND_ANSWER,
    ) -> None:
        tasks = [task] if isinstance(task, str) else task
        _check(tasks, split, size, seed, options)
        first = seed + (EVAL_SEED if split == "eval" else 0)
        settings = {**(options or {}), "seed": first, "size": -(-size // len(tasks))}
        self._tasks = [(name, settings, _make(name, settings)) for name in tasks]
        self._size = size
        self._chat = chat
        self._instruction = instruction

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Prompt:
        *_, dataset = self._tasks[index % len(self._tasks)]
        question = dataset[index // len(self._tasks)]["question"]
        return make_prompt(self._instruction, question, chat=self._chat, lead="Answer:")

    def get_reference_answer(self, index: int) -> dict[str, Any]:
        name, settings, dataset = self._tasks[index % len(self._tasks)]
        row = index // len(self._tasks)
        return {"task": name, "options": settings, "index": row, "question": dataset[row]["question"]}


def _check(tasks: list[str], split: str, size: int, seed: int, options: dict[str, Any] | None) -> None:
    if split not in {"train", "eval"}:
        raise ValueError(f"split must be train or eval, not {split!r}")
    if not tasks or (len(tasks) > 1 and options):
        raise ValueError(
            f"options need a single task, but there are {len(tasks)}" if tasks else "task is an empty list"
        )
    if options and not {"seed", "size"}.isdisjoint(options):
        raise ValueError("seed and size are set next to options, not inside them")
    if size < len(tasks) or seed < 0 or seed + size > EVAL_SEED:
        raise ValueError(f"size must be at least {len(tasks)}, seed at least 0, and both together at most {EVAL_SEED}")


def _make(task: str, options: dict[str, Any]) -> Any:
    try:
        from reasoning_gym.factory import DATASETS, create_dataset
    except ImportError as error:
        raise UsageError(
            f"the dataset reasoning_gym needs the package reasoning-gym ({error}): pip install 'rlx[reasoning-gym]'"
        ) from error
    if task not in (known := sorted(set(DATASETS) - {COMPOSITE})):
        raise ValueError(f"no task {task!r}.{did_you_mean(task, known)} The tasks are: {', '.join(known)}")
    return create_dataset(task, **options)
