r"""`direct_math`: 1 where the completion's last `Answer: ...` is the reference answer, else -1.

* The answer is what follows the last `Answer:` (any case, `**Answer:**` too) up to the end of its line; with
  `answer_pattern`, the first group (or all) of that pattern's last match. No match is -1, whatever the reference is.
* With `solution_length_limit` only so many characters from the completion's end are looked at.
* Both sides are brought to one form (`normal_form.py`) and compared as text: no algebra, no time limit. `math` knows
  that `(x+1)^2` is `x^2+2x+1`; this reward does not.
* A reference that is missing or has no such form is the dataset's fault and raises.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import PositiveInt

from rlx_rewards.normal_form import normal_form

ANSWER = r"(?i)answer[\s*_]*:[\s*_]*([^\n]+)"
RIGHT, WRONG = 1.0, -1.0


def direct_math_reward_fn(
    to_be_evaluated: str,
    reference: Any = None,
    *,
    answer_pattern: str = ANSWER,
    solution_length_limit: PositiveInt | None = None,
    **kwargs: Any,  # noqa: ARG001 - what rlx offers besides
) -> float:
    """1.0 where the last `Answer: ...` is the reference answer, else -1.0.

    Raises ValueError where the reference holds no answer.
    """
    wanted = "" if reference is None else normal_form(str(reference))
    if not wanted:
        raise ValueError(f"direct_math compares with the row's reference answer, which holds none: {reference!r:.80}")
    found = _last_match(answer_pattern, _tail(to_be_evaluated, solution_length_limit))
    return RIGHT if found is not None and normal_form(found) == wanted else WRONG


def _tail(text: str, limit: int | None) -> str:
    if limit is None:
        return text
    if limit < 1:
        raise ValueError(f"solution_length_limit = {limit} leaves nothing to look at")
    return text[-limit:]


def _last_match(pattern: str, text: str) -> str | None:
    matches = list(re.finditer(pattern, text))
    if not matches:
        return None
    last = matches[-1]
    return last.group(1) if last.re.groups else last.group()
