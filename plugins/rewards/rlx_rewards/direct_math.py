r"""`direct_math`: 1 if the completion's last `Answer: ...` is the reference answer, else -1.

* The answer is the rest of the line after the last `Answer:` (in upper or lower case, `**Answer:**` too). With
  `answer_pattern`, it is the first group (or all) of that pattern's last match. Without a match the reward is -1.
* With `solution_length_limit`, only that many characters at the end of the completion are searched.
* Both sides are normalised (`normal_form.py`) and compared as text, without algebra and without a time limit. The
  reward `math` knows that `(x+1)^2` is `x^2+2x+1`; this one doesn't.
* A missing or empty reference is the dataset's fault and raises.
"""

from __future__ import annotations

from typing import Any

from pydantic import PositiveInt

from rlx_rewards.normal_form import normal_form
from rlx_rewards.patterns import last_match

ANSWER = r"(?i)answer[\s*_]*:[\s*_]*([^\n]+)"
RIGHT, WRONG = 1.0, -1.0


def direct_math_reward_fn(
    to_be_evaluated: str,
    reference: Any = None,
    *,
    answer_pattern: str = ANSWER,
    solution_length_limit: PositiveInt | None = None,
    **kwargs: Any,  # noqa: ARG001 - other arguments that rlx offers
) -> float:
    """Return 1.0 if the last `Answer: ...` is the reference answer, else -1.0.

    Raises ValueError if the reference contains no answer.
    """
    wanted = "" if reference is None else normal_form(str(reference))
    if not wanted:
        raise ValueError(f"direct_math compares with the row's reference answer, which is empty: {reference!r:.80}")
    found = last_match(answer_pattern, _tail(to_be_evaluated, solution_length_limit))
    return RIGHT if found is not None and normal_form(found) == wanted else WRONG


def _tail(text: str, limit: int | None) -> str:
    if limit is None:
        return text
    if limit < 1:
        raise ValueError(f"solution_length_limit = {limit} leaves nothing to search")
    return text[-limit:]
