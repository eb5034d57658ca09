"""`single_choice`: 1 if the chosen option is the reference's, else 0; case doesn't matter.

* The choice is the content of the last `<answer>...</answer>`; without one, the whole completion.
* Punctuation around an option isn't part of it: `(B)`, `B.`, `B)`, `**B**`, `$B$` are `B`. Anything more is another
  answer: `B or C` and `B. Paris` are not `B`.
* A reference without an option is the dataset's fault and raises.
"""

from __future__ import annotations

from typing import Any

from rlx_rewards.tagged import tagged_answer

AROUND = " \t\r\n.,:;()[]{}*_`$\"'"


def single_choice_reward_fn(
    to_be_evaluated: str,
    reference: Any = None,
    **kwargs: Any,  # noqa: ARG001 - other arguments that rlx offers
) -> float:
    """Return 1.0 if the option in the last `<answer>...</answer>` is the reference's, else 0.0.

    Raises ValueError if the reference is missing or contains no option.
    """
    wanted = "" if reference is None else _option(str(reference))
    if not wanted:
        raise ValueError(f"single_choice needs a reference answer, and this row's has no option: {reference!r:.80}")
    return float(_option(to_be_evaluated) == wanted)


def _option(text: str) -> str:
    answer = tagged_answer(text, "answer")
    return (text if answer is None else answer).strip(AROUND).casefold()
