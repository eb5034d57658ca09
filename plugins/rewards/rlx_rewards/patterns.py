"""Finds the answer in a completion by a regular expression; shared by `exact_match` and `direct_math`."""

from __future__ import annotations

import re


def last_match(pattern: str, text: str) -> str | None:
    """Return the first group (or all) of the pattern's last match in `text`; None without a match."""
    matches = list(re.finditer(pattern, text))
    if not matches:
        return None
    last = matches[-1]
    return last.group(1) if last.re.groups else last.group()
