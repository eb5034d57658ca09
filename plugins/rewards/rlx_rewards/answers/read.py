r"""Reads a cleaned answer: finds out which kind it is, and reads its parts.

From the outside in: a list (`,`, `;`, "and", "or" outside of brackets), a relation (`=`, `<`, `\in` ...), a union, a
bracketed group or matrix, then a single value. Text that fits nothing else is an expression, which is compared by
algebra, or as it is written.
"""

from __future__ import annotations

import re
from functools import lru_cache

from rlx_rewards.answers.clean import LONGEST, compact
from rlx_rewards.answers.kinds import (
    Answer,
    Based,
    Clock,
    Expression,
    Group,
    Matrix,
    Quantity,
    Ratio,
    Relation,
    Union,
    Words,
)
from rlx_rewards.answers.numbers import read_number
from rlx_rewards.answers.units import split_unit

DEEPEST = 12
"""Brackets inside brackets; what is deeper is an expression."""

_MOST_SIDES = 12
"""Signs of the longest chain of equations."""
_TOKEN = re.compile(
    r"\\begin\{[a-z]+\*?\}|\\end\{[a-z]+\*?\}|\\[a-zA-Z]+|\\.|(?<![A-Za-z])(?:and|or)(?![A-Za-z])|:=|==|.", re.DOTALL
)
_OPENING = frozenset(["(", "[", "{", "\\{", "\\langle", "\\lfloor", "\\lceil"])
_CLOSING = frozenset([")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil"])
_COMMAS = frozenset([",", ";", "and", "or", "\\land", "\\lor", "\\wedge", "\\vee"])
_SIGNS = {
    "=": "=",
    ":=": "=",
    "==": "=",
    "<": "<",
    ">": ">",
    "\\le": "\\le",
    "\\ge": "\\ge",
    "\\ne": "\\ne",
    "\\approx": "\\approx",
    "\\equiv": "\\equiv",
    "\\in": "\\in",
}
_BRACKETS = {"\\{": "{", "\\}": "}", "\\langle": "(", "\\rangle": ")"}
_THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?!\d|,\d)")
_MATRIX = re.compile(r"\\begin\{([pbBvV]?matrix)\}(.*)\\end\{\1\}", re.DOTALL)
_BUILDER = re.compile(r"[a-zA-Z]\s*(?:\\in\s*\\mathbb\{R\}\s*)?(?:\\mid|\||:)\s*(.+)")
_CLOCK = re.compile(r"(?i)(\d{1,2})(?::([0-5]\d))?\s*(?:([ap])\.?\s*m\.?)?")
_BASED = re.compile(r"\(?\s*([0-9A-Za-z]+)\s*\)?\s*(?:_\s*\{?\s*\(?\s*(\w+)\s*\)?\s*\}?|\(?\s*base[- ](\w+)\s*\)?)")
_BASES = dict(
    zip(
        ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"],
        range(2, 13),
        strict=True,
    )
)
_BASES |= {"sixteen": 16, "binary": 2, "hex": 16}
_WORDS = re.compile(r"[A-Za-z][A-Za-z'-]*(?: [A-Za-z'-]+)*")
_SHORT_WORDS = frozenset(
    [
        "yes",
        "no",
        "odd",
        "even",
        "up",
        "down",
        "left",
        "right",
        "true",
        "none",
        "zero",
        "one",
        "two",
        "six",
        "ten",
        "day",
        "red",
        "sum",
    ]
)
_ARTICLE = re.compile(r"(?i)(?<![a-zA-Z\\])an? (?=[a-z]{2})|(?<![a-zA-Z\\])the (?=[a-z])")
_OVERLINE = re.compile(r"(?<![\d.])\\overline\s*\{([^{}]*)\}")
_CAPITALISED = re.compile(r"(?<![a-zA-Z\\])(?:[A-Z][a-z]+|[A-Z]{4,}|YES|NO)(?![a-zA-Z])")
_BRACED = re.compile(r"(?<=[\^_])\{\s*(\w)\s*\}")
_PLUS = re.compile(r"(?<![^(,\[{=])\+")
_NUMBER_AND_WORDS = re.compile(r"(\d+(?:\.\d+)?) ?([A-Za-z\u00b0][A-Za-z ,\u00b0]*)")
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}|\d{1,2}/\d{1,2}/\d{2,4}|\d{1,2}\.\d{1,2}\.\d{4}")
_TIMES = re.compile(r"(?<=[\d)}])\s*(?:\*|\\cdot(?![a-zA-Z]))\s*(?=[a-zA-Z(\\])")


@lru_cache(maxsize=1024)
def read(text: str) -> Answer:
    """Read a cleaned answer, which isn't empty."""
    return _read(text)


def source_of(text: str) -> str:
    """Return the notation that identifies an answer: without articles, braces and spaces that mean nothing."""
    text = _OVERLINE.sub(r" \1 ", _ARTICLE.sub("", text))
    text = _TIMES.sub("", _BRACED.sub(r"\1", text))
    return _PLUS.sub("", compact(_CAPITALISED.sub(lambda match: match.group().lower(), text)))


def _read(text: str, depth: int = 0, inside: bool = False) -> Answer:
    """Read an answer, `depth` parts inside of the whole; `inside` of brackets, a comma always separates."""
    text = text.strip()
    source = source_of(text)
    if len(text) > LONGEST or depth > DEEPEST:
        return Expression(source, text)
    compound = None if inside else _compound(text)
    if compound is not None:
        return compound
    items, joints = _split(text, _COMMAS, thousands=not inside)
    if len(items) > 1:
        either = bool(joints) and joints[-1] in {"or", "\\lor", "\\vee"}
        return Group(source, _flat(items, depth + 1, inside), "", either)
    if items and items[0] != text:  # a comma at an end
        return _read(items[0], depth + 1, inside)
    if "\\pm" in text or "\\mp" in text:
        plus = text.replace("\\pm", "+").replace("\\mp", "-")
        minus = text.replace("\\pm", "-").replace("\\mp", "+")
        return Group(source, (_read(plus, depth + 1, inside), _read(minus, depth + 1, inside)), "")
    return (
        _relation(text, source, depth, inside)
        or _union(text, source, depth)
        or _bracketed(text, source, depth)
        or _matrix(text, source, depth)
        or _single(text, source, depth, inside)
    )


def _compound(text: str) -> Words | None:
    """Read `5 ft 6 in`: at least two numbers, with different units."""
    parts = list(_NUMBER_AND_WORDS.finditer(text))
    if len(parts) < 2 or "".join(match.group() for match in parts) != text:
        return None
    found = [split_unit(f"{match[1]} {match[2].strip(' ,').removesuffix(' and').strip(' ,')}") for match in parts]
    units = [unit for _, unit in found]
    if "" in units or len(set(units)) < len(units) or any(unit.startswith("word ") for unit in units):
        return None
    return Words(" and ".join(f"{value} {unit}" for value, unit in found))


def _flat(items: list[str], depth: int, inside: bool) -> tuple[Answer, ...]:
    r"""Read the items of a list; `1, \pm 2` has three."""
    found: list[Answer] = []
    for item in items:
        one = _read(item, depth, inside)
        found.extend(one.items if isinstance(one, Group) and not one.brackets else [one])
    return tuple(found)


def _tokens(text: str) -> list[tuple[int, str, int]]:
    """Return (position, token, depth of brackets around it) for each token; a bracket is inside of itself."""
    found = []
    depth = 0
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token in _OPENING or token.startswith("\\begin{"):
            depth += 1
        found.append((match.start(), token, depth))
        if token in _CLOSING or token.startswith("\\end{"):
            depth -= 1
    return found


def _split(text: str, separators: frozenset[str] | set[str], thousands: bool = False) -> tuple[list[str], list[str]]:
    """Split at separators outside of brackets; return the parts that aren't empty, and the separators."""
    kept = {
        place + offset
        for match in (_THOUSANDS.finditer(text) if thousands else ())
        for place in [match.start()]
        for offset, character in enumerate(match.group())
        if character == ","
    }
    parts, joints, begin = [], [], 0
    for place, token, depth in _tokens(text):
        if depth == 0 and token in separators and place not in kept:
            parts.append(text[begin:place].strip())
            joints.append(token)
            begin = place + len(token)
    parts.append(text[begin:].strip())
    return [part for part in parts if part], joints


def _relation(text: str, source: str, depth: int, inside: bool) -> Answer | None:
    sides, signs = _split(text, frozenset(_SIGNS))
    if not 0 < len(signs) <= _MOST_SIDES or len(sides) != len(signs) + 1:
        return None
    return Relation(
        source, tuple(_read(side, depth + 1, inside) for side in sides), tuple(_SIGNS[sign] for sign in signs)
    )


def _union(text: str, source: str, depth: int) -> Answer | None:
    parts, joints = _split(text, {"\\cup"})
    if not joints or len(parts) < 2:
        return None
    return Union(source, tuple(_read(part, depth + 1) for part in parts))


def _bracketed(text: str, source: str, depth: int) -> Answer | None:
    tokens = _tokens(text)
    opening, closing = tokens[0][1], tokens[-1][1]
    if opening not in {"(", "[", "{", "\\{", "\\langle"} or closing not in {")", "]", "}", "\\}", "\\rangle"}:
        return None
    if any(depth_of == 0 for _, _, depth_of in tokens) or _ends_before_last(tokens):
        return None
    inner = text[len(opening) : tokens[-1][0]].strip()
    if not inner:
        return None
    brackets = _BRACKETS.get(opening, opening) + _BRACKETS.get(closing, closing)
    items, _ = _split(inner, frozenset([",", ";"]))
    if opening == "{" and len(items) == 1:  # only groups, as in {42}
        return _read(inner, depth + 1)
    if brackets == "{}" or opening == "{":
        brackets = "{}"
        builder = _BUILDER.fullmatch(inner)
        if builder is not None and not read_number(inner):
            return _read(builder[1], depth + 1)
        return Group(source, _flat(items, depth + 1, inside=True), brackets)
    if len(items) == 1:
        return _read(inner, depth + 1)
    return Group(source, tuple(_read(item, depth + 1, inside=True) for item in items), brackets)


def _ends_before_last(tokens: list[tuple[int, str, int]]) -> bool:
    """Return whether the first bracket closes before the end, as in `(1)(2)`."""
    return any(depth == 1 and token in _CLOSING for _, token, depth in tokens[:-1])


def _matrix(text: str, source: str, depth: int) -> Answer | None:
    match = _MATRIX.fullmatch(text)
    if match is None or match[1][0] in "vV" or "\\begin" in match[2]:
        return None
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", match[2]) if row.strip()]
    cells = [[cell.strip() for cell in row.split("&")] for row in rows]
    if not all(cell for row in cells for cell in row):
        return None
    return Matrix(source, tuple(tuple(_read(cell, depth + 1) for cell in row) for row in cells))


def _single(text: str, source: str, depth: int, inside: bool) -> Answer:
    if _DATE.fullmatch(text):
        return Words(source)
    number = read_number(text)
    if number is not None:
        return number
    based = _based(text, source)
    if based is not None:
        return based
    clock = _CLOCK.fullmatch(text)
    if clock is not None and (clock[2] or clock[3]) and int(clock[1]) <= 24:
        half = f"{clock[3].lower()}m" if clock[3] else ""
        return Clock(source, int(clock[1]), int(clock[2] or 0), half)
    parts, colons = _split(re.sub(r"(?<=\d) to (?=\d)", ":", text), {":"})
    if colons and len(parts) == len(colons) + 1:
        return Ratio(source, tuple(_read(part, depth + 1) for part in parts))
    value, unit = split_unit(text)
    if unit:
        return Quantity(source, _read(value, depth + 1, inside), unit) if value else Expression(source, text)
    if _is_text(text):
        return Words(source)
    return Expression(source, text)


def _based(text: str, source: str) -> Answer | None:
    match = _BASED.fullmatch(text)
    if match is None:
        return None
    written = match[2] or match[3]
    if not match[1][0].isdigit() and not match[1].isupper() and written != "16":
        return None
    base = int(written) if written.isdigit() and len(written) < 3 else _BASES.get(written.lower(), 0)
    if not 2 <= base <= 36 or not all(int(digit, 36) < base for digit in match[1]):
        return None
    return Based(source, match[1].upper().lstrip("0") or "0", base)


def _is_text(text: str) -> bool:
    """Return whether letters are words rather than a product of variables."""
    if not _WORDS.fullmatch(text):
        return False
    words = text.split()
    return (
        len(text) == 1
        or any(len(word) > 3 or word.lower() in _SHORT_WORDS for word in words)
        or (len(words) > 1 and all(len(word) > 1 for word in words))
    )
