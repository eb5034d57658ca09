"""`single_choice`: 1 where the chosen option is the reference's, else 0; upper and lower case are the same.

* The choice is what the last `<answer>...</answer>` holds; without one, the whole completion.
* What is written around an option is not part of it: `(B)`, `B.`, `B)`, `**B**`, `$B$` are `B`. Anything more is
  another answer: `B or C` and `B. Paris` are not `B`.
* A reference that holds no option is the dataset's fault and raises.
"""

from __future__ import annotations

from typing import Any

from rlx_rewards.tagged import tagged_answer

AROUND = " \t\r\n.,:;()[]{}*_`$\"'"


def single_choice_reward_fn(
    to_be_evaluated: str,
    reference: Any = None,
    **kwargs: Any,  # noqa: ARG001 - what rlx offers besides
) -> float:
    """1.0 where the option in the last `<answer>...</answer>` is the reference's, else 0.0.

    Raises ValueError where the reference is missing or holds no option.
    """
    wanted = "" if reference is None else _option(str(reference))
    if not wanted:
        raise ValueError(f"single_choice needs a reference answer, and this row's holds no option: {reference!r:.80}")
    return float(_option(to_be_evaluated) == wanted)


def _option(text: str) -> str:
    answer = tagged_answer(text, "answer")
    return (text if answer is None else answer).strip(AROUND).casefold()
