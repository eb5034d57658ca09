"""`gsm8k`: 1 if the number after the completion's last `####` equals the reference's, else 0.

* The last marker counts: a completion may repeat the template before it answers.
* The rest of the line after the marker must contain exactly one number: `#### 41 42` isn't an answer.
* Numbers are compared as numbers: `42.`, `42.0`, `$42`, `####42`, and `1,000` or `1 000` for `1000` are equal. All
  signs of minus count, dashes directly before the number among them.
* Of a calculation (`6*7=42`), the number behind the last `=` counts.
* The reference is a number, text with a marker, or text with exactly one number. Anything else is the dataset's fault
  and raises: two missing answers are never equal.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

MARKER = "####"
_MINUS = r"(?:[-\u2212\uff0d]\s*|[\u2010-\u2013](?=[$.\d]))"
_SPACE = "[ \u00a0\u2009\u202f]"
_WHOLE = rf"(?:\d{{1,3}}(?:,\d{{3}})+|\d{{1,3}}(?:{_SPACE}\d{{3}})+(?!\d)|\d+)"
_NUMBER = re.compile(rf"(?P<sign>(?<![\w.)]){_MINUS})?\$?\s*(?P<digits>{_WHOLE}(?:\.\d+)?|\.\d+)")
_CALCULATION = re.compile(r"[\d.)]\s*[-+*/x\u00d7\u00f7\u2212]\s*[\d.(]")


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
    if reference is None:
        raise ValueError("gsm8k compares with the dataset's reference answer, and this row has none")
    text = str(reference)
    wanted = _after_marker(text) if MARKER in text else _only_number(text)
    if wanted is None:
        raise ValueError(f"the reference answer must be one number, or end in '#### number': {text[-80:]!r}")
    return wanted


def _after_marker(text: str) -> Decimal | None:
    lines = text.rpartition(MARKER)[2].strip().splitlines()
    left, equals, right = (lines[0] if lines else "").rpartition("=")
    return _only_number(right if equals and _CALCULATION.search(left) else left + equals + right)


def _only_number(text: str) -> Decimal | None:
    """Return the only number in `text`; None if it contains none, or more than one."""
    matches = list(_NUMBER.finditer(text))
    if len(matches) != 1:
        return None
    match = matches[0]
    value = Decimal(re.sub(rf",|{_SPACE}", "", match["digits"]))
    return -value if match["sign"] else value
