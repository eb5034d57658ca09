r"""Normalises final answers, so that different notations of one answer compare equal as text.

The rules are those of Minerva (arXiv:2206.14858, appendix D): take the last side of an equation; drop LaTeX that is
only layout, units and articles; write out shorthand such as `\frac12`. They apply to whole words and LaTeX commands,
never to letters inside a word: `pursue` stays `pursue`. A unit is dropped at the end of an answer if a number precedes
it; `degrees` alone is an answer.

An answer that is a plain number (`42`, `1,000`, `3.50`, `1/2`, `\frac{1}{2}`) becomes that number, exactly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from rlx_rewards.latex import last_boxed

UNITS = (
    "children|students|people|tickets|meals|multiples|edges|points|digits|integers|units|ways|"
    "dollars|cents|hours|minutes|seconds|degrees|mph|square|inches|feet|miles|meters|km|cm|mm|kg|gm|pounds|th"
)
LONGEST = 1000
"""Characters. A longer answer is compared unchanged: some rules, and Python's integers, are slow on such texts."""

_BEFORE, _AFTER = " ,:;*_`", " .,:;*_`"
"""Characters around an answer that aren't part of it."""

_MATHS = re.compile(r"\$(?!\s)([^$]+)(?<!\s)\$(?!\d)|\\\((.+?)\\\)|\\\[(.+?)\\\]")
"""A formula. `$42 and $43` are amounts of money: the second `$` follows a space."""
_UNIT = re.compile(rf"(?i)(?<![a-z\\])(?:(?:{UNITS})\b ?)+(?:\^ ?\{{?[23]\}}?)?[{_AFTER}]*$")
_DECIMAL = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)")
_RATIO = re.compile(r"([-+]?)(?:\\frac\{([-+]?\d+)\}\{(\d*[1-9]\d*)\}|(\d+)/(\d*[1-9]\d*))")

Rules = Sequence[tuple[str, str]]
_LAYOUT_RULES: Rules = (
    ("\u2212", "-"),
    (r"\\[dt]frac(?![a-z])", r"\\frac"),
    (r"\\(?:left|right|displaystyle)(?![a-z])", ""),
    (r"\{,\}|,\\!", ","),
    (r"\\[,;:!> ]|~", " "),
    (r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}", r" \1 "),
    (r"(?<![\d.])\\overline\s*\{([^{}]*)\}", r" \1 "),  # but not the overline of a repeating decimal
    (r"\^ ?\{? ?\\circ ?\}?|\u00b0|\\?%|\\?\$|\\l?dots(?![a-z])", ""),
    (r" +", " "),
)
_WORD_RULES: Rules = (
    (r"(?i)\ban? (?=[a-z]{2})", ""),
    (r",? ?\band\b", ","),
    (r" ", ""),
    (r"\\sqrt([^\[{\\])", r"\\sqrt{\1}"),
    (r"\\frac([^{\\])", r"\\frac{\1}"),
    (r"\\frac(\{[^{}]*\})([^{\\])", r"\\frac\1{\2}"),
)


def normal_form(answer: str) -> str:
    """Return the normalised answer; an empty string if nothing is left."""
    text = " ".join(answer.split())
    if len(text) > LONGEST:
        return text
    text = _trimmed(_inner(text).rpartition("=")[2])
    text = _apply(_LAYOUT_RULES, text)
    text = _trimmed(_apply(_WORD_RULES, _without_unit(text)))
    number = _number(text)
    return text if number is None else str(number)


def _inner(text: str) -> str:
    """Return the boxed part; else the formula in the text, if there is exactly one; else the text."""
    box = last_boxed(text)
    if box is not None:
        return box
    stretches = list(_MATHS.finditer(text))
    return next(filter(None, stretches[0].groups())) if len(stretches) == 1 else text


def _apply(rules: Rules, text: str) -> str:
    for pattern, replacement in rules:
        text = re.sub(pattern, replacement, text)
    return text


def _trimmed(text: str) -> str:
    return text.lstrip(_BEFORE).rstrip(_AFTER)


def _without_unit(text: str) -> str:
    unit = _UNIT.search(text)
    before = text[: unit.start()] if unit else ""
    return before if any(character.isdigit() for character in before) else text


def _number(text: str) -> Fraction | None:
    if _DECIMAL.fullmatch(text):
        return Fraction(text.replace(",", ""))
    ratio = _RATIO.fullmatch(text)
    if ratio is None:
        return None
    sign, *parts = ratio.groups()
    above, below = filter(None, parts)
    return Fraction(int(above), int(below)) * (-1 if sign == "-" else 1)
