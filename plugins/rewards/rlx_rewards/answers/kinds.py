"""The kinds of answer that `read` recognises and `compare` compares.

Every kind has a `source`: its cleaned text without insignificant spaces, which identifies it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Number:
    r"""A number written out: `42`, `3.50`, `\frac{1}{2}`, `1 1/2`, `6.02e-23`, `0.\overline{3}`."""

    source: str
    value: Fraction
    significant: int = 0
    """Significant digits of a number with a decimal point; 0 for one that is exact."""
    step: Fraction = Fraction(0)
    """The value of one unit in the last place of a number with a decimal point; 0 for one that is exact."""


@dataclass(frozen=True)
class Quantity:
    """A value and its unit: `7 km`, `9 %`, `$5`, `12 apples`, `90 °`."""

    source: str
    value: Answer
    unit: str


@dataclass(frozen=True)
class Based:
    """Digits in a number base: `21_5`."""

    source: str
    digits: str
    base: int


@dataclass(frozen=True)
class Clock:
    """A time of day. `half` is `am`, `pm`, or empty where it isn't said."""

    source: str
    hour: int
    minute: int
    half: str


@dataclass(frozen=True)
class Ratio:
    """Parts of a proportion: `3:2`."""

    source: str
    parts: tuple[Answer, ...]


@dataclass(frozen=True)
class Words:
    """Text: `east`, `B`."""

    source: str


@dataclass(frozen=True)
class Expression:
    """Any other mathematics, as LaTeX."""

    source: str
    latex: str


@dataclass(frozen=True)
class Group:
    """Several answers.

    `brackets`: `()`, `{}`, `[]`, `[)`, `(]`, or empty for a list without any. In `{}` and in a bare list the order
    doesn't matter. `either`: the items of a bare list are joined by "or".
    """

    source: str
    items: tuple[Answer, ...]
    brackets: str
    either: bool = False


@dataclass(frozen=True)
class Union:
    r"""Sets joined by `\cup`."""

    source: str
    parts: tuple[Answer, ...]


@dataclass(frozen=True)
class Matrix:
    """Rows of a matrix or vector."""

    source: str
    rows: tuple[tuple[Answer, ...], ...]


@dataclass(frozen=True)
class Relation:
    """A chain of equations or inequalities: n + 1 sides and the n signs between them, each as LaTeX's command."""

    source: str
    sides: tuple[Answer, ...]
    signs: tuple[str, ...]


Answer = Number | Quantity | Based | Clock | Ratio | Words | Expression | Group | Union | Matrix | Relation
