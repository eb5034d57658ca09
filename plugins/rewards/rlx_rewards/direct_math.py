r"""`direct_math`: 1 if the completion's last `Answer: ...` is the reference answer, else -1.

* The answer is the rest of the line after the last `Answer:` (in upper or lower case, `**Answer:**` too). With
  `answer_pattern`, it is the first group (or all) of that pattern's last match. Without a match the reward is -1.
* With `solution_length_limit`, only that many characters at the end of the completion are searched.
* The reasoning, all before the last `</think>`, isn't searched.
* Both sides are compared by the same rules as in `math` (docs/rewards.md), but without algebra: the reward `math` knows
  that `(x+1)^2` is `x^2+2x+1`; this one doesn't. It needs no time limit.
* A missing or empty reference is the dataset's fault and raises.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic import PositiveInt

from rlx_rewards.answers.clean import cleaned
from rlx_rewards.answers.compare import same_answer
from rlx_rewards.answers.find import answer_part, boxed_answer, inner
from rlx_rewards.patterns import last_match

ANSWER = (
    r"(?i)answer[\s*_]*:[\s*_]*("
    r"\$\$[^$]{0,1000}\$\$[^\n]*|\\\[(?:[^\\]|\\[^\[\]]){0,1000}\\\][^\n]*"
    r"|\\begin\{(?:(?!answer)[\s\S]){0,1000}?\\end\{[^\n]*|[^\n]+)"
)
"""The rest of the line, or a display that begins on it."""
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
    wanted = "" if reference is None else final_answer(str(reference))
    if not cleaned(wanted):
        raise ValueError(f"direct_math compares with the row's reference answer, which is empty: {reference!r:.80}")
    found = last_match(answer_pattern, answer_part(_tail(to_be_evaluated, solution_length_limit)))
    return RIGHT if found is not None and same_answer(final_answer(found), wanted, algebra=False) else WRONG


@lru_cache(maxsize=256)
def final_answer(text: str) -> str:
    """Return the boxed part of an answer; else the formula in it, with its unit; else all of it."""
    box = boxed_answer(text)
    return inner(text) if box is None else box


def _tail(text: str, limit: int | None) -> str:
    if limit is None:
        return text
    if limit < 1:
        raise ValueError(f"solution_length_limit = {limit} leaves nothing to search")
    return text[-limit:]
