"""`gsm8k`: 1 if the number after the completion's last `####` equals the reference's, else 0.

* The last marker counts: a completion may repeat the template before it answers.
* The rest of the line after the marker must contain exactly one number: `#### 41 42` isn't an answer.
* Numbers are compared as numbers: `42.`, `42.0`, `$42`, `####42` and `1,000` for `1000` are equal.
* The reference is a number, text with a marker, or text with exactly one number. Anything else is the dataset's fault
  and raises: two missing answers are never equal.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

MARKER = "####"
_NUMBER = re.compile(r"(?P<sign>(?<![\w.)])[-\u2212]\s*)?\$?\s*(?P<digits>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)")


def gsm8k_reward_fn(
    to_be_evaluated: str,
    reference: Any = None,
    **kwargs: Any,  # noqa: ARG001 - other arguments that rlx offers
) -> float:
    """Return 1.0 if the number after the last `####` is the reference's, else 0.0.

    Raises ValueError unless the reference contains exactly one number.
    """
    wanted = _reference(reference)
    if MARKER not in to_be_evaluated:
        return 0.0
    return float(_after_marker(to_be_evaluated) == wanted)


def _reference(reference: Any) -> Decimal:
    text = str(reference)
    wanted = _after_marker(text) if MARKER in text else _only_number(text)
    if wanted is None:
        raise ValueError(f"the reference answer must be one number, or end in '#### number': {text[-80:]!r}")
    return wanted


def _after_marker(text: str) -> Decimal | None:
    line = text.rpartition(MARKER)[2].strip()
    return _only_number(line.splitlines()[0]) if line else None


def _only_number(text: str) -> Decimal | None:
    """Return the only number in `text`; None if it contains none, or more than one."""
    matches = list(_NUMBER.finditer(text))
    if len(matches) != 1:
        return None
    match = matches[0]
    value = Decimal(match["digits"].replace(",", ""))
    return -value if match["sign"] else value
