r"""Decides whether an answer is the reference answer, kind by kind.

* Equal sources are equal. Otherwise kinds are compared with their own kind, and a few with others: an answer may leave
  out a unit, a base, the name in `x = 5`, and the brackets of a tuple or set; and `x \le 8` is `(-\infty, 8]`.
* Nothing is equal because only a part of it is: an equation isn't its last side, a list isn't one of its items.
* `algebra` says whether expressions that are written differently are computed. Without it they are different.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from rlx_rewards.answers import algebra
from rlx_rewards.answers.clean import cleaned
from rlx_rewards.answers.kinds import (
    Answer,
    Based,
    Clock,
    Expression,
    Group,
    Matrix,
    Number,
    Quantity,
    Ratio,
    Relation,
    Union,
    Words,
)
from rlx_rewards.answers.numbers import rounds_to, same_number
from rlx_rewards.answers.read import read
from rlx_rewards.answers.units import same_unit

_MOST_ITEMS = 50
_CHOICE = re.compile(r"\(?([A-J])[).:] +(?!or |and |,)((?:(?!\([A-J]\)).)+)")
_NAME = re.compile(
    r"""
    (?:
        \\?[a-zA-Z](?:[a-z]{3,})?                                  # x, \theta, area
      | \\[a-z]+
      | [A-Z]{2,4}                                                 # AB
      | \|[A-Z]{2}\| | m?\\angle\ ?[A-Z]{1,3} | \\triangle\ ?[A-Z]{3}
      | \\frac\{d[a-z]\}\{d[a-z]\}                                 # dy/dx
    )
    (?:_\w|_\{[^{}]*\})?'*(?:\^\{-1\})?(?:\([^()=]*\)|\[[A-Z]\])?  # a_n, f'(x), P(A), E[X]
    """,
    re.VERBOSE,
)
_NO_NAME = re.compile(r"\\(?:frac|sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp|pi|infty|arcsin|arccos|arctan)(?![a-zA-Z])")
_CALCULATION = re.compile(r"-?\\(?:lim|int|iint|sum|prod|binom|det|gcd|lcm|max|min)(?![a-zA-Z])")
_FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
_PUNCTURED = "\\mathbb{R}\\setminus"
_OPEN_SIGNS = frozenset(["<", ">"])


def same_answer(answer: str, reference: str, *, algebra: bool) -> bool:
    """Return whether a final answer, as it is written, equals the reference answer."""
    found, wanted = cleaned(answer), cleaned(reference)
    if not found or not wanted:
        return False
    return Comparison(algebra).same_text(found, wanted)


@dataclass(frozen=True)
class Interval:
    """The numbers between two ends. `name`: the variable that is in it; empty if none is named."""

    low: Answer
    high: Answer
    low_open: bool
    high_open: bool
    name: str = ""


@dataclass(frozen=True)
class Comparison:
    """Compares what `read` returns; the second argument of a method is the reference's."""

    algebra: bool

    def same_text(self, found: str, wanted: str) -> bool:
        """Compare cleaned answers. Of `(B) 12`, the letter or the answer behind it is enough."""
        if self.same(read(found), read(wanted)):
            return True
        choice, right = _CHOICE.fullmatch(found), _CHOICE.fullmatch(wanted)
        if choice and right:
            return choice[1] == right[1] and self.same_text(choice[2], right[2])
        if choice:
            return _letter(wanted) == choice[1] or self.same(read(choice[2]), read(wanted))
        if right:
            return _letter(found) == right[1] or self.same(read(found), read(right[2]))
        return False

    def same(self, found: Answer, wanted: Answer) -> bool:
        """Compare two answers of any kind."""
        if found.source == wanted.source:
            return True
        found, wanted = _unpacked(found), _unpacked(wanted)
        kinds = (found, wanted)
        if any(
            (isinstance(one, Group) and one.either) or isinstance(one, Union) or _is_real_line(one) for one in kinds
        ):
            regions = _region(found), _region(wanted)
            if all(regions):
                return self._same_regions(*regions)
        if isinstance(found, Group) or isinstance(wanted, Group):
            return self._same_groups(found, wanted)
        if isinstance(found, Relation) or isinstance(wanted, Relation):
            return self._same_relations(found, wanted)
        if isinstance(found, Union) or isinstance(wanted, Union):
            return False
        if isinstance(found, Matrix) or isinstance(wanted, Matrix):
            return isinstance(found, Matrix) and isinstance(wanted, Matrix) and self._same_matrices(found, wanted)
        if isinstance(found, Quantity) or isinstance(wanted, Quantity):
            return self._same_quantities(found, wanted)
        return self._same_scalars(found, wanted)

    # Relations

    def _same_relations(self, found: Answer, wanted: Answer) -> bool:
        found_name, found_value = self._named(found)
        wanted_name, wanted_value = self._named(wanted)
        if isinstance(found, Relation) and isinstance(wanted, Relation):
            if found_name and found_name == wanted_name:
                return self.same(found_value, wanted_value)
            return self._same_kind_of_relation(found, wanted)
        if found_name or wanted_name:
            return self.same(found_value, wanted_value)
        regions = _region(found), _region(wanted)
        if all(regions):
            return self._same_regions(*regions)
        if isinstance(found, Relation):
            result = self._result(found)
            return result is not None and self.same(result, wanted)
        assert isinstance(wanted, Relation)
        if set(wanted.signs) == {"\\approx"}:  # a reference that gives the exact answer and its rounding
            return any(self.same(found, side) for side in wanted.sides)
        result = self._result(wanted)
        return result is not None and self.same(found, result)

    def _named(self, one: Answer) -> tuple[str, Answer]:
        """Return the name and the value of `x = 5`; an empty name and the answer itself if it isn't of that form."""
        if not isinstance(one, Relation) or not set(one.signs) <= {"=", "\\approx", "\\in"}:
            return "", one
        first, *others = one.sides
        if not _is_name(first):
            if len(one.sides) == 2 and one.signs[0] != "\\in" and _is_name(others[-1]):
                return others[-1].source, first
            return "", one
        exact = len(others)
        while exact > 1 and one.signs[exact - 1] == "\\approx":  # x = \sqrt{2} \approx 1.41
            exact -= 1
        value = others[exact - 1]
        if value.source == first.source:  # x = x
            return "", one
        return (first.source, value) if all(self._agree(side, value) for side in others[: exact - 1]) else ("", one)

    def _result(self, chain: Relation) -> Answer | None:
        """Return the last side of a calculation, such as `2+3=5`; None of an equation that states something."""
        if not set(chain.signs) <= {"=", "\\approx"}:
            return None
        last = chain.sides[-1]
        for side in chain.sides[:-1]:
            if _CALCULATION.match(side.source) is None and _has_letters(side):
                if not self._computed(side, last):
                    return None
            elif not self._agree(side, last):
                return None
        return last if chain.signs[-1] == "=" else chain.sides[-2]

    def _agree(self, side: Answer, value: Answer) -> bool:
        """Return whether two sides of a chain can be meant to be equal: `1/3 = 0.33` can, `3 = 4` can't."""
        one, other = self._number(side), self._number(value)
        return one is None or other is None or abs(one - other) * 100 <= max(abs(one), abs(other))

    def _number(self, one: Answer) -> Fraction | None:
        if isinstance(one, Quantity):
            return self._number(one.value)
        if isinstance(one, Number):
            return one.value
        return algebra.value_of(one.latex) if self.algebra and isinstance(one, Expression) else None

    def _same_kind_of_relation(self, found: Relation, wanted: Relation) -> bool:
        regions = _region(found), _region(wanted)
        if all(regions) and self._same_regions(*regions):
            return True
        if len(found.signs) != 1 or len(wanted.signs) != 1:
            return self._same_chains(found, wanted)
        sign, wanted_sign = found.signs[0], wanted.signs[0]
        sides = found.sides
        if sign in _FLIPPED and sign != wanted_sign:
            sign, sides = _FLIPPED[sign], sides[::-1]
        if sign != wanted_sign:
            return False
        if all(map(self.same, sides, wanted.sides)):
            return True
        if sign in {"=", "\\ne"} and all(map(self.same, sides[::-1], wanted.sides)):
            return True
        if not self.algebra or sign not in {"=", "\\ne", *_FLIPPED}:
            return False
        differences = _difference(sides), _difference(wanted.sides)
        if None in differences:
            return False
        return algebra.proportional(str(differences[0]), str(differences[1]), positive=sign in _FLIPPED)

    def _same_chains(self, found: Relation, wanted: Relation) -> bool:
        if len(found.sides) != len(wanted.sides):
            return False
        if found.signs == wanted.signs and all(map(self.same, found.sides, wanted.sides)):
            return True
        flipped = tuple(_FLIPPED.get(sign, sign) for sign in reversed(found.signs))
        return flipped == wanted.signs and all(map(self.same, found.sides[::-1], wanted.sides))

    def _same_regions(self, found: Sequence[Interval], wanted: Sequence[Interval]) -> bool:
        names = {interval.name for interval in [*found, *wanted]} - {""}
        if len(found) != len(wanted) or len(names) > 1:
            return False
        return all(any(self._same_interval(one, other) for one in found) for other in wanted)

    def _same_interval(self, one: Interval, other: Interval) -> bool:
        return (
            (one.low_open, one.high_open) == (other.low_open, other.high_open)
            and self.same(one.low, other.low)
            and self.same(one.high, other.high)
        )

    # Groups

    def _same_groups(self, found: Answer, wanted: Answer) -> bool:
        if isinstance(found, Number) and isinstance(wanted, Group) and not wanted.brackets and "," in found.source:
            found = read(found.source.replace(",", ", "))  # 1,200 may be two numbers
        for one, other in ((found, wanted), (wanted, found)):
            if isinstance(one, Group) and isinstance(other, Matrix):
                vector = len(other.rows) == 1 or len(other.rows[0]) == 1
                cells = [cell for row in other.rows for cell in row]
                return vector and one.brackets == "()" and self._in_order(one.items, cells)
            if isinstance(one, Group) and len(one.items) == 1 and one.brackets == "{}" and not isinstance(other, Group):
                return self.same(one.items[0], other)
            if isinstance(one, Relation):
                name, value = self._named(one)
                if name:
                    return self.same(value, wanted) if one is found else self.same(found, value)
                regions = _region(found), _region(wanted)
                return all(regions) and self._same_regions(*regions)
        if not isinstance(found, Group) or not isinstance(wanted, Group):
            return False
        return self._same_lists(found, wanted)

    def _same_lists(self, found: Group, wanted: Group) -> bool:
        if len(found.items) > _MOST_ITEMS or (found.brackets and wanted.brackets and not _same_brackets(found, wanted)):
            return False
        regions = _region(found), _region(wanted)
        if all(regions) and self._same_regions(*regions):
            return True
        if len(found.items) != len(wanted.items):
            return found.brackets == wanted.brackets == "{}" and self._same_sets(found.items, wanted.items)
        names, wanted_names = self._names(found), self._names(wanted)
        for group in (found, wanted):
            if group.brackets == "[]" and len(group.items) == 2 and found.brackets != wanted.brackets:
                return False
            if group.brackets in {"[)", "(]"} and found.brackets != wanted.brackets:
                return False
        brackets = {found.brackets, wanted.brackets}
        if max(len(set(names)), len(set(wanted_names))) > 1 and not (names and wanted_names):
            return self._in_order(self._by_name(found), self._by_name(wanted))
        dots = any(item.source.startswith("\\ldots") for item in (*found.items, *wanted.items))
        if brackets <= {"", "{}"} and not dots:
            return self._in_any_order(found.items, wanted.items)
        return self._in_order(self._by_name(found), self._by_name(wanted))

    def _names(self, group: Group) -> list[str]:
        return [name for name, _ in map(self._named, group.items) if name]

    def _by_name(self, group: Group) -> Sequence[Answer]:
        """Return the values of a list, in the order of their names if all have different ones."""
        named = [self._named(item) for item in group.items]
        names = {name for name, _ in named}
        if "" in names or len(names) < len(named):
            return group.items
        return [value for _, value in sorted(named, key=lambda pair: pair[0])]

    def _in_order(self, found: Sequence[Answer], wanted: Sequence[Answer]) -> bool:
        return len(found) == len(wanted) and all(map(self.same, found, wanted))

    def _in_any_order(self, found: Sequence[Answer], wanted: Sequence[Answer]) -> bool:
        left = list(found)
        for item in wanted:
            match = next((place for place, one in enumerate(left) if self.same(one, item)), None)
            if match is None:
                return False
            del left[match]
        return not left

    def _same_sets(self, found: Sequence[Answer], wanted: Sequence[Answer]) -> bool:
        """Compare sets of which one repeats an element."""
        return all(any(self.same(one, item) for one in found) for item in wanted) and all(
            any(self.same(one, item) for item in wanted) for one in found
        )

    def _same_matrices(self, found: Matrix, wanted: Matrix) -> bool:
        return len(found.rows) == len(wanted.rows) and all(map(self._in_order, found.rows, wanted.rows))

    # Single values

    def _same_quantities(self, found: Answer, wanted: Answer) -> bool:
        value, unit = (found.value, found.unit) if isinstance(found, Quantity) else (found, "")
        wanted_value, wanted_unit = (wanted.value, wanted.unit) if isinstance(wanted, Quantity) else (wanted, "")
        if not same_unit(unit, wanted_unit):
            return False
        if self.same(value, wanted_value):
            return True
        if {unit[:1], wanted_unit[:1]} == {"%", ""}:
            return self.same(_hundredth(value, unit), _hundredth(wanted_value, wanted_unit))
        if {unit, wanted_unit} == {"\u00b0", ""} and "\\pi" in found.source + wanted.source:
            return self.same(_radians(value, unit), _radians(wanted_value, wanted_unit))
        return False

    def _same_scalars(self, found: Answer, wanted: Answer) -> bool:
        if isinstance(found, Based) or isinstance(wanted, Based):
            digits = [one.digits if isinstance(one, Based) else one.source for one in (found, wanted)]
            bases = {one.base for one in (found, wanted) if isinstance(one, Based)}
            return len(bases) == 1 and digits[0] == digits[1]
        if isinstance(found, Clock) and isinstance(wanted, Clock):
            return _same_time(found, wanted)
        if isinstance(found, Clock | Ratio) or isinstance(wanted, Clock | Ratio):
            return self._same_ratios(found, wanted)
        if isinstance(found, Number) and isinstance(wanted, Number):
            return same_number(found, wanted)
        return self.algebra and self._computed(found, wanted)

    def _same_ratios(self, found: Answer, wanted: Answer) -> bool:
        parts, wanted_parts = _parts(found), _parts(wanted)
        if not parts or len(parts) != len(wanted_parts):
            return False
        numbers = [self._number(part) for part in parts]
        wanted_numbers = [self._number(part) for part in wanted_parts]
        if None in numbers or None in wanted_numbers:
            return self._in_order(parts, wanted_parts)
        return all(
            one * (wanted_numbers[0] or 0) == other * (numbers[0] or 0)
            for one, other in zip(numbers, wanted_numbers, strict=True)
            if one is not None and other is not None
        )

    def _computed(self, found: Answer, wanted: Answer) -> bool:
        """Compare two values, at least one of which is an expression, by algebra."""
        if not self.algebra:
            return False
        one, other = _latex(found), _latex(wanted)
        if one is None or other is None:
            return False
        if all(re.fullmatch("[A-Za-z]+", side.source) for side in (found, wanted)):
            return algebra.equal_expressions(one, other) if (one + other).islower() else False
        for decimal, exact in ((found, other), (wanted, one)):
            if isinstance(decimal, Number) and decimal.step:
                value = algebra.value_of(exact)
                if value is not None:
                    return rounds_to(decimal, value) or algebra.equal_expressions(one, other)
        return algebra.equal_expressions(one, other)


def _letter(text: str) -> str:
    return text.strip("().: ")


def _unpacked(one: Answer) -> Answer:
    """Turn `(x, y) = (5, 3)` into `x = 5, y = 3`, and the list of dots and items into itself."""
    if not isinstance(one, Relation) or one.signs != ("=",):
        return one
    left, right = one.sides
    if not isinstance(left, Group) or not isinstance(right, Group) or len(left.items) != len(right.items):
        return one
    if not all(map(_is_name, left.items)):
        return one
    pairs = zip(left.items, right.items, strict=True)
    items = tuple(Relation(f"{name.source}={value.source}", (name, value), ("=",)) for name, value in pairs)
    return Group(one.source, items, "")


def _is_name(one: Answer) -> bool:
    return isinstance(one, Expression | Words) and bool(_NAME.fullmatch(one.source)) and not _NO_NAME.match(one.source)


def _has_letters(one: Answer) -> bool:
    """Return whether an answer contains letters outside of LaTeX's commands."""
    return isinstance(one, Expression | Words) and bool(re.search("[a-zA-Z]", re.sub(r"\\[a-zA-Z]+", "", one.source)))


def _is_real_line(one: Answer) -> bool:
    return one.source in {"\\mathbb{R}", "\\mathbb R"}


def _region(one: Answer) -> list[Interval]:
    """Return the intervals that an answer describes; an empty list if it describes none."""
    infinity, minus = read("\\infty"), read("-\\infty")
    if _is_real_line(one):
        return [Interval(minus, infinity, low_open=True, high_open=True)]
    if isinstance(one, Group) and one.brackets in {"()", "[]", "[)", "(]"} and len(one.items) == 2:
        low, high = one.items
        return [Interval(low, high, one.brackets[0] == "(", one.brackets[1] == ")")]
    if isinstance(one, Expression) and one.source.startswith(_PUNCTURED):
        return _punctured(read(one.source.removeprefix(_PUNCTURED)), minus, infinity)
    if isinstance(one, Union):
        return _all_or_none([_region(part) for part in one.parts])
    if isinstance(one, Group) and not one.brackets and all(isinstance(item, Relation) for item in one.items):
        if any(item.signs[0] not in _FLIPPED for item in one.items if isinstance(item, Relation)):
            return []
        found = _all_or_none([_region(item) for item in one.items])
        return _both(found) if not one.either and len(found) == 2 else found
    if isinstance(one, Relation):
        return _region_of_relation(one, minus, infinity)
    return []


def _region_of_relation(one: Relation, minus: Answer, infinity: Answer) -> list[Interval]:
    if one.signs == ("\\in",) and _is_name(one.sides[0]):
        region = _region(one.sides[1])
        return [Interval(i.low, i.high, i.low_open, i.high_open, one.sides[0].source) for i in region]
    sides, signs = one.sides, one.signs
    if len(sides) == 2 and _is_name(sides[1]) and signs[0] in _FLIPPED and not _is_name(sides[0]):
        sides, signs = sides[::-1], (_FLIPPED[signs[0]],)
    if len(sides) == 2 and re.fullmatch(r"\|[a-z]\|", sides[0].source) and isinstance(sides[1], Number):
        low, high = _negative(sides[1]), sides[1]
        name, is_open = sides[0].source.strip("|"), signs[0] in _OPEN_SIGNS
        if signs[0] in {"<", "\\le"}:
            return [Interval(low, high, is_open, is_open, name)]
        if signs[0] in {">", "\\ge"}:
            return [Interval(minus, low, True, is_open, name), Interval(high, infinity, is_open, True, name)]
    if len(sides) == 2 and _is_name(sides[0]):
        name, bound = sides[0].source, sides[1]
        is_open = signs[0] in _OPEN_SIGNS
        if signs[0] in {"<", "\\le"}:
            return [Interval(minus, bound, low_open=True, high_open=is_open, name=name)]
        if signs[0] in {">", "\\ge"}:
            return [Interval(bound, infinity, low_open=is_open, high_open=True, name=name)]
        if signs[0] == "\\ne":
            below = Interval(minus, bound, low_open=True, high_open=True, name=name)
            return [below, Interval(bound, infinity, low_open=True, high_open=True, name=name)]
    if len(sides) == 3 and _is_name(sides[1]) and set(signs) <= {">", "\\ge"}:
        sides, signs = sides[::-1], (_FLIPPED[signs[1]], _FLIPPED[signs[0]])
    if len(sides) == 3 and _is_name(sides[1]) and set(signs) <= {"<", "\\le"}:
        return [Interval(sides[0], sides[2], signs[0] == "<", signs[1] == "<", sides[1].source)]
    return []


def _punctured(holes: Answer, minus: Answer, infinity: Answer) -> list[Interval]:
    """Return the intervals of the real line without the numbers `holes`."""
    items = holes.items if isinstance(holes, Group) and holes.brackets == "{}" else ()
    numbers = [item for item in items if isinstance(item, Number)]
    if not items or len(numbers) < len(items):
        return []
    ends = [minus, *sorted(numbers, key=lambda number: number.value), infinity]
    return [Interval(low, high, low_open=True, high_open=True) for low, high in itertools.pairwise(ends)]


def _all_or_none(regions: list[list[Interval]]) -> list[Interval]:
    return [interval for region in regions for interval in region] if all(regions) else []


def _both(found: list[Interval]) -> list[Interval]:
    """Return the one interval of `x > 2, x < 5`; two that don't overlap stay two."""
    low, high = sorted(found, key=lambda interval: interval.low.source == "-\\infty")
    if low.high.source != "\\infty" or high.low.source != "-\\infty" or low.name != high.name:
        return found
    if isinstance(low.low, Number) and isinstance(high.high, Number) and low.low.value < high.high.value:
        return [Interval(low.low, high.high, low.low_open, high.high_open, low.name)]
    return found


def _same_brackets(found: Group, wanted: Group) -> bool:
    if found.brackets == wanted.brackets:
        return True
    return {found.brackets, wanted.brackets} == {"()", "[]"} and len(wanted.items) != 2


def _difference(sides: Sequence[Answer]) -> str | None:
    latex = [_latex(side) for side in sides]
    return None if None in latex else f"({latex[0]})-({latex[1]})"


def _latex(one: Answer) -> str | None:
    """Return LaTeX that computes a value; None for kinds that have none."""
    if isinstance(one, Number):
        return str(one.value) if one.value.denominator == 1 else _fraction(one.value)
    if isinstance(one, Words):
        return one.source if len(one.source) == 1 else None
    return one.latex if isinstance(one, Expression) else None


def _fraction(value: Fraction) -> str:
    sign = "-" if value < 0 else ""
    return f"{sign}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def _hundredth(value: Answer, unit: str) -> Answer:
    if not unit:
        return value
    if isinstance(value, Number):
        return Number(f"{value.source}/100", value.value / 100, value.significant, value.step / 100)
    latex = _latex(value)
    return value if latex is None else Expression(f"{value.source}/100", f"\\frac{{{latex}}}{{100}}")


def _radians(value: Answer, unit: str) -> Answer:
    latex = _latex(value)
    if unit != "\u00b0" or latex is None:
        return value
    return Expression(f"{value.source}\\pi/180", f"\\frac{{({latex})\\pi}}{{180}}")


def _negative(number: Number) -> Number:
    return Number(f"-{number.source}", -number.value, number.significant, number.step)


def _parts(one: Answer) -> tuple[Answer, ...]:
    if isinstance(one, Ratio):
        return one.parts
    if isinstance(one, Clock) and not one.half:
        return (read(str(one.hour)), read(str(one.minute)))
    if isinstance(one, Number):
        return (read(str(one.value.numerator)), read(str(one.value.denominator)))
    return ()


def _same_time(found: Clock, wanted: Clock) -> bool:
    if (found.half and wanted.half) or (not found.half and not wanted.half):
        return (_hour(found), found.minute, found.half) == (_hour(wanted), wanted.minute, wanted.half)
    return found.minute == wanted.minute and (found.hour == wanted.hour or _hour(found) == _hour(wanted))


def _hour(clock: Clock) -> int:
    """Return the hour of the day, from 0."""
    return clock.hour % 12 + 12 * (clock.half == "pm") if clock.half else clock.hour
