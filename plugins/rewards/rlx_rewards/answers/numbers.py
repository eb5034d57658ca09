r"""Reads numbers that are written out, exactly; and says when two are the same.

Forms: `42`, `1,000`, `1 000`, `3.50`, `.5`, `1/2`, `\frac{1}{2}`, the mixed numbers `1 1/2` and `1\frac{1}{2}`,
scientific notation (`6.02e-23`, `6.02 \times 10^{-23}`, `10^5`), and repeating decimals (`0.\overline{3}`, `0.333...`).

Two exact numbers, and two decimals, are equal if their values are. A decimal equals an exact number also if it is that
number correctly rounded, to at least ROUNDED_DIGITS significant digits, or cut off after CUT_DIGITS: `0.333333` is
`1/3`; `0.333` isn't.
"""

from __future__ import annotations

import re
from fractions import Fraction

from rlx_rewards.answers.clean import compact
from rlx_rewards.answers.kinds import Number

ROUNDED_DIGITS = 6
"""Significant digits from which a rounded decimal counts as the exact number. math-verify rounds to as many places."""
CUT_DIGITS = 8
"""The same for a decimal that isn't rounded but cut off, such as 3.1415926535."""
_DIGITS_AT_MOST = 300
"""Digits of a number, and size of an exponent: larger ones are left to be compared as text or expressions."""

_WHOLE = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)"
_PLAIN = rf"(?:{_WHOLE}(?:\.\d*)?|\.\d+)"
_TIMES_TEN = r"\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*(?:\{\s*([-+]?\d+)\s*\}|\(\s*([-+]?\d+)\s*\)|([-+]?\d+))"
_DECIMAL = re.compile(rf"({_PLAIN})(?:\s?[eE]([-+]?\d+)|{_TIMES_TEN})?")
_POWER_OF_TEN = re.compile(r"10\s*\^\s*(?:\{\s*([-+]?\d+)\s*\}|([-+]?\d+))")
_RATIO = re.compile(
    r"(?:(\d+)\s*(?=\\)|(\d+)[ -](?=\d))?"
    r"(?:\\frac\s*\{\s*(-?[\d,.]+)\s*\}\s*\{\s*(-?[\d,.]+)\s*\}|([\d,.]+)\s*/\s*([\d,.]+))"
)
_REPEATING = re.compile(r"(\d*)\.(\d*?)(?:\\overline\s*\{(\d+)\}|\\bar\s*\{?(\d+)\}?|\((\d+)\)|\\dot\s*\{?(\d)\}?)")
_DOTTED = re.compile(r"(\d*)\.(\d+?)\s*\\ldots")
_BLOCKS = re.compile(r"(\d*?)(\d+?)\2{2,}")
"""Digits that end in one block three times or more; the shortest such block."""


def read_number(text: str) -> Number | None:
    """Return the number that all of `text`, cleaned, is; None if it isn't one."""
    text = text.strip()
    if len(text) > 2 * _DIGITS_AT_MOST:
        return None
    sign = 1
    body = text
    while body[:1] in {"-", "+"}:
        sign, body = (-sign if body[0] == "-" else sign), body[1:].lstrip()
    if body.startswith("{") and body.endswith("}") and body.count("{") == 1:
        body = body[1:-1].strip()
    found = _decimal(body) or _ratio(body) or _repeating(body)
    if found is None:
        return None
    return Number(compact(text), sign * found.value, found.significant, found.step)


def same_number(one: Number, other: Number) -> bool:
    """Return whether two numbers are equal, or one is a decimal and the other, exact, rounds to it."""
    if one.value == other.value:
        return True
    if bool(one.step) == bool(other.step):
        return False
    decimal, exact = (one, other) if one.step else (other, one)
    return rounds_to(decimal, exact.value)


def rounds_to(decimal: Number, exact: Fraction) -> bool:
    """Return whether `exact`, correctly rounded or cut off, is `decimal`, which has enough digits to say so."""
    off = abs(exact) - abs(decimal.value) if exact * decimal.value > 0 else Fraction(1)
    if decimal.significant >= CUT_DIGITS and 0 <= off < decimal.step:
        return True
    return decimal.significant >= ROUNDED_DIGITS and abs(off) * 2 <= decimal.step


def _decimal(text: str) -> Number | None:
    power = _POWER_OF_TEN.fullmatch(text)
    if power is not None:
        exponent = _exponent(power.groups())
        return None if exponent is None else Number(text, Fraction(10) ** exponent)
    match = _DECIMAL.fullmatch(text)
    if match is None:
        return None
    exponent = _exponent(match.groups()[1:])
    if exponent is None:
        return None
    whole, point, places = re.sub("[, ]", "", match[1]).partition(".")
    value = Fraction(int(f"0{whole}{places}")) * Fraction(10) ** (exponent - len(places))
    if not point or not places:
        return Number(text, value)
    significant = len((whole + places).lstrip("0"))
    return Number(text, value, significant, Fraction(10) ** (exponent - len(places)))


def _exponent(groups: tuple[str | None, ...]) -> int | None:
    """Return the exponent of ten, 0 without one; None if it is too large to compute with."""
    written = next(filter(None, groups), "0")
    return int(written) if len(written) < 5 and abs(int(written)) <= _DIGITS_AT_MOST else None


def _ratio(text: str) -> Number | None:
    match = _RATIO.fullmatch(text)
    if match is None:
        return None
    mixed = match[1] or match[2]
    above, below = _plain(match[3] or match[5]), _plain(match[4] or match[6])
    if above is None or not below:
        return None
    value = above / below
    if mixed:
        if not 0 <= value < 1 or "." in text:  # 2\frac{3}{2} is a product
            return None
        value += int(mixed)
    return Number(text, value)


def _plain(text: str) -> Fraction | None:
    sign = -1 if text.startswith("-") else 1
    found = _DECIMAL.fullmatch(text.removeprefix("-"))
    return None if found is None else sign * Fraction(found[1].replace(",", ""))


def _repeating(text: str) -> Number | None:
    match = _REPEATING.fullmatch(text)
    if match is not None:
        whole, places = match[1], match[2]
        return Number(text, _repeated(whole, places, next(filter(None, match.groups()[2:]))))
    match = _DOTTED.fullmatch(text)
    blocks = None if match is None else _BLOCKS.fullmatch(match[2])
    if match is None or blocks is None:
        return None
    return Number(text, _repeated(match[1], blocks[1], blocks[2]))


def _repeated(whole: str, places: str, block: str) -> Fraction:
    """Return whole.places, followed by the block for ever."""
    scale = int(f"1{'0' * len(places)}")
    return Fraction(int(f"0{whole}{places}")) / scale + Fraction(int(block), int("9" * len(block)) * scale)
