r"""`boxed_math`: 1 if math-verify finds the completion's last `\boxed{...}` equal to the reference, else 0.

Like `math`, except that the box is required: an answer outside a box scores 0, right or wrong. The policy is rewarded
for the form that its prompt asks for, and not for a number that its text happened to end with. References, limits and
threads are handled as in `math`.
"""

from __future__ import annotations

from typing import Any

from pydantic import PositiveInt

from rlx_rewards.latex import last_boxed
from rlx_rewards.math import boxed, equality


def boxed_math_reward_fn(
    to_be_evaluated: str,
    reference: Any = None,
    *,
    seconds: PositiveInt = 5,
    **kwargs: Any,  # noqa: ARG001 - other arguments that rlx offers
) -> float:
    r"""Return 1.0 if math-verify finds the last `\boxed{...}` equal to the reference, else 0.0.

    Raises ValueError if the reference is missing or isn't mathematics.
    """
    box = last_boxed(to_be_evaluated)
    # The reference is read even without a box: a wrong dataset must not look like a policy that knows nothing.
    return equality("" if box is None else boxed(box), reference, seconds)
