r"""`boxed_math`: 1 if the completion's last `\boxed{...}` equals the reference, by algebra too, else 0.

Like `math`, except that the box is required: an answer outside a box scores 0, right or wrong. The policy is rewarded
for the form that its prompt asks for, and not for a number that its text happened to end with. References, limits and
threads are handled as in `math`.
"""

from __future__ import annotations

from typing import Any

from pydantic import PositiveInt

from rlx_rewards.answers.find import answer_part, boxed_answer
from rlx_rewards.math import equality


def boxed_math_reward_fn(
    to_be_evaluated: str,
    reference: Any = None,
    *,
    seconds: PositiveInt = 5,
    **kwargs: Any,  # noqa: ARG001 - other arguments that rlx offers
) -> float:
    r"""Return 1.0 if the last `\boxed{...}` equals the reference, else 0.0.

    Raises ValueError if the reference is missing or empty, also for a completion without a box.
    """
    return equality(boxed_answer(answer_part(to_be_evaluated)), reference, seconds)
