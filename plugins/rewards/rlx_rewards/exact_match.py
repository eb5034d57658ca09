"""`exact_match`: 1 if the completion is the reference answer, else 0.

Both sides are compared as text, without surrounding white space; a number is converted with `str`. With `pattern`, the
answer is the first group (or all) of the pattern's last match in the completion; without a match the reward is 0.
"""

from __future__ import annotations

from typing import Any

from rlx_rewards.patterns import last_match


def exact_match_reward_fn(
    to_be_evaluated: str,
    reference: Any = None,
    *,
    pattern: str | None = None,
    ignore_case: bool = False,
    **kwargs: Any,  # noqa: ARG001 - other arguments that rlx offers
) -> float:
    """Return 1.0 if the completion, or the part matched by `pattern`, is the reference answer, else 0.0.

    Raises ValueError if the row has no reference answer.
    """
    if reference is None or reference != reference:  # NaN: a missing value
        raise ValueError("exact_match compares with the dataset's reference answer, and this row has none")
    answer = to_be_evaluated if pattern is None else last_match(pattern, to_be_evaluated)
    if answer is None:
        return 0.0
    found, wanted = answer.strip(), str(reference).strip()
    if ignore_case:
        found, wanted = found.casefold(), wanted.casefold()
    return float(found == wanted)
