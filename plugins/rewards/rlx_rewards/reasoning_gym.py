"""`reasoning_gym`: the score of the answer by a reasoning-gym task, from 0 to 1.

* A right answer scores 1. Some tasks give part of that to answers that are partly right.
* The answer is the content of the last `<answer>...</answer>`. Without one the reward is 0, and the scorer isn't asked
  (some give a little to a missing answer).
* The reference names the row of the task, as the dataset `reasoning_gym` provides it; the row is generated again here.
  A malformed reference, or a row that turns out to ask another question, is the dataset's fault and raises.
* The scorers of a few tasks raise on answers that they can't parse: such an answer scores 0.
* Scorers are reasoning-gym's own code. Some give the answer to sympy, which evaluates text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from rlx import UsageError
from rlx_rewards.tagged import tagged_answer

_ROWS_KEPT = 256
"""A row is needed once for each completion of its group; some take 0.3 s to generate."""


def reasoning_gym_reward_fn(
    to_be_evaluated: str,
    reference: Any = None,
    *,
    tag: str = "answer",
    **kwargs: Any,  # noqa: ARG001 - other arguments that rlx offers
) -> float:
    """Return the score, from 0 to 1. With an empty `tag`, the whole text is the answer.

    Raises ValueError for a malformed reference.
    """
    dataset, row = _row(reference)
    answer = tagged_answer(to_be_evaluated, tag)
    if answer is None:
        return 0.0
    try:
        return float(dataset.score_answer(answer, row))
    except Exception:  # noqa: BLE001 - the boundary: a scorer that can't read the answer
        dataset.score_answer(row["answer"], row)  # raises if the scorer fails on the right answer, too
        return 0.0


def _row(reference: Any) -> tuple[Any, dict[str, Any]]:
    if not isinstance(reference, Mapping) or not {"task", "options", "index", "question"} <= reference.keys():
        raise ValueError(f"reasoning_gym needs the dataset of that name; this row's reference is {reference!r:.80}")
    options = json.dumps(reference["options"], sort_keys=True)
    row = _generate(reference["task"], options, reference["index"])
    if row["question"] != reference["question"]:
        raise ValueError(
            f"the task {reference['task']} differs between processes; set PYTHONHASHSEED=0 in the environment"
        )
    return _dataset(reference["task"], options), row


@lru_cache(maxsize=_ROWS_KEPT)
def _generate(task: str, options: str, index: int) -> dict[str, Any]:
    row: dict[str, Any] = _dataset(task, options)[index]
    return row


@cache
def _dataset(task: str, options: str) -> Any:
    try:
        from reasoning_gym.factory import create_dataset
    except ImportError as error:
        raise UsageError(
            f"the reward reasoning_gym needs the package reasoning-gym ({error}): pip install 'rlx[reasoning-gym]'"
        ) from error
    return create_dataset(task, **json.loads(options))
