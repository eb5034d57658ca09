r"""`math`: 1 if math-verify finds the completion's answer equal to the reference, else 0.

* The completion's answer is its last `\boxed{...}`, if it has one; else math-verify looks for one (LaTeX, then plain
  numbers; the last of several). The reward `boxed_math` requires the box.
* The reference may be LaTeX in `$...$` or `\boxed{...}`, or bare: `42`, `\frac{1}{2}`, `(1, 2)`. One that can't be read
  as mathematics is the dataset's fault and raises.
* A completion that can't be read, or compared within `seconds`, is not equal. The limit needs signals, so it
  applies in the main thread only (rlx calls rewards in the main thread of a process that it can kill).
"""

from __future__ import annotations

import threading
from typing import Any

from pydantic import PositiveInt

from rlx_rewards.latex import last_boxed

_LATEX_MARKS = ("\\boxed", "$", "\\(", "\\[")


def math_reward_fn(
    to_be_evaluated: str,
    reference: Any = None,
    *,
    seconds: PositiveInt = 5,
    **kwargs: Any,  # noqa: ARG001 - other arguments that rlx offers
) -> float:
    """Return 1.0 if math-verify finds the answer equal to the reference, else 0.0.

    Raises ValueError if the reference is missing or isn't mathematics.
    """
    box = last_boxed(to_be_evaluated)
    return equality(to_be_evaluated if box is None else boxed(box), reference, seconds)


def equality(text: str, reference: Any, seconds: int) -> float:
    """Return 1.0 if the answer that math-verify finds in `text` equals the reference, else 0.0.

    Raises like `math_reward_fn`.
    """
    from math_verify import verify

    limit = seconds if threading.current_thread() is threading.main_thread() else None
    gold = _parse_reference(reference, limit)
    return float(verify(gold, _parse(text, limit), timeout_seconds=limit))


def boxed(answer: str) -> str:
    """Put `answer` in a box, where math-verify looks first.

    A full stop at its end is dropped: math-verify would read it as part of the number.
    """
    return f"\\boxed{{{answer.strip().rstrip('.')}}}"


def _parse_reference(reference: Any, limit: int | None) -> list[Any]:
    if reference is None:
        raise ValueError("math compares with the dataset's reference answer, and this row has none")
    text = str(reference).strip()
    gold = _parse(text if any(mark in text for mark in _LATEX_MARKS) else boxed(text), limit)
    if not gold:
        raise ValueError(f"the reference answer can't be read as mathematics: {text[:80]!r}")
    return gold


def _parse(text: str, limit: int | None) -> list[Any]:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    kinds = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]
    found: list[Any] = parse(text, kinds, parsing_timeout=limit)
    return found
