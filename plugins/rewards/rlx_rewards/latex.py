r"""The content of `\boxed{...}` in a text; shared by the rewards for mathematics."""

from __future__ import annotations

import re

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
"""A brace that groups; what a backslash escapes (`\\{`) is taken along, and is none."""


def last_boxed(text: str) -> str | None:
    r"""The content of the last complete `\boxed{...}` (or `\fbox{...}`), braces balanced; None if there is none.

    One pass: a policy that writes nothing but `\boxed{` must not cost a minute.
    """
    boxes = {box.end() for box in _BOX.finditer(text)}
    opened: list[int] = []
    last: tuple[int, int] | None = None
    for brace in _BRACE.finditer(text):
        if brace.group() == "{":
            opened.append(brace.end())
        elif brace.group() == "}" and opened:
            start = opened.pop()
            if start in boxes and (last is None or start > last[0]):
                last = (start, brace.start())
    return None if last is None else text[last[0] : last[1]]
