r"""`math`: 1 if the completion's final answer equals the reference, by algebra too, else 0.

* The completion's answer is its last `\boxed{...}`, if it has one; else what follows "answer:" or "answer is"; else its
  last formula or number (`answers/find.py`). The reward `boxed_math` requires the box.
* The reference may be LaTeX in `$...$` or `\boxed{...}`, or bare: `42`, `\frac{1}{2}`, `(1, 2)`. An empty one is the
  dataset's fault and raises.
* docs/rewards.md says what is equal. math-verify's parser, latex2sympy, reads expressions, and sympy computes them.
* A completion that can't be read, or compared within `seconds`, is not equal. The limit needs signals, so it
  applies in the main thread only (rlx calls rewards in the main thread of a process that it can kill).
"""

from __future__ import annotations

from typing import Any

from pydantic import PositiveInt

from rlx_rewards.answers.algebra import TimeUp, time_limit
from rlx_rewards.answers.clean import cleaned
from rlx_rewards.answers.compare import same_answer
from rlx_rewards.answers.find import answer_part, boxed_answer, free_answer, inner
from rlx_rewards.latex import last_boxed


def math_reward_fn(
    to_be_evaluated: str,
    reference: Any = None,
    *,
    seconds: PositiveInt = 5,
    **kwargs: Any,  # noqa: ARG001 - other arguments that rlx offers
) -> float:
    """Return 1.0 if the final answer equals the reference, else 0.0.

    Raises ValueError if the reference is missing or empty.
    """
    text = answer_part(to_be_evaluated)
    box = boxed_answer(text)
    return equality(free_answer(text) if box is None else box, reference, seconds)


def equality(answer: str | None, reference: Any, seconds: float) -> float:
    """Return 1.0 if the answer equals the reference and is found to within `seconds`, else 0.0.

    Raises like `math_reward_fn`.
    """
    wanted = _reference(reference)
    if answer is None:
        return 0.0
    try:
        with time_limit(seconds):
            return float(same_answer(inner(answer), wanted, algebra=True))
    except (TimeUp, RecursionError):
        return 0.0


def _reference(reference: Any) -> str:
    if reference is None:
        raise ValueError("math compares with the dataset's reference answer, and this row has none")
    text = str(reference).strip()
    box = last_boxed(text)
    answer = inner(text) if box is None else box
    if not cleaned(answer):
        raise ValueError(f"the reference answer can't be read as mathematics: {text[:80]!r}")
    return answer
