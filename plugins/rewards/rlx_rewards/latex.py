r"""Finds the content of `\boxed{...}` in a text; shared by the rewards for mathematics."""

from __future__ import annotations

import re

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
"""A brace, or a backslash and the character that it escapes: the brace in `\\{` groups nothing."""


def boxes(text: str) -> list[tuple[int, int, str]]:
    r"""Return (begin, end, content) of each complete `\boxed{...}` (or `\fbox{...}`), in order of their beginnings.

    One pass: a policy that writes nothing but `\boxed{` must not cost a minute.
    """
    begins = {box.end(): box.start() for box in _BOX.finditer(text)}
    opened: list[int] = []
    found = []
    for brace in _BRACE.finditer(text):
        if brace.group() == "{":
            opened.append(brace.end())
        elif brace.group() == "}" and opened:
            start = opened.pop()
            if start in begins:
                found.append((begins[start], brace.end(), text[start : brace.start()]))
    return sorted(found)


def last_boxed(text: str) -> str | None:
    r"""Return the content of the last complete `\boxed{...}` (or `\fbox{...}`), braces balanced; None without one."""
    found = boxes(text)
    return found[-1][2] if found else None
