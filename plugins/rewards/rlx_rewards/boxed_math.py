r"""`boxed_math`: 1 where the completion's last `\boxed{...}` equals the reference, by math-verify, else 0.

It is `math`, but the box must be there: an answer that stands anywhere else scores 0, right or not. So the policy is
paid for the form that its prompt asks for, and a number that it happened to end with is no answer.
Reference, limits, threads: as `math` has them.
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
    **kwargs: Any,  # noqa: ARG001 - what rlx offers besides
) -> float:
    r"""1.0 where math-verify finds the last `\boxed{...}` equal to the reference, else 0.0.

    Raises ValueError where the reference is missing or is no mathematics.
    """
    box = last_boxed(to_be_evaluated)
    # Without a box the reference is still read: a wrong dataset must not look like a policy that knows nothing.
    return equality("" if box is None else boxed(box), reference, seconds)
