r"""Compares expressions by computing them: the last resort, and the only part that needs sympy.

latex2sympy, math-verify's parser, reads the LaTeX. Two expressions are equal if they have the same value at each of
POINTS for their variables at which both are real (or, with the imaginary unit, complex) numbers, and there are enough
such points; an expression without variables has one. Values are computed to PRECISION digits and compared relatively:
nothing is too small to differ. Decimals are exact fractions here.

Expressions whose values would need millions of digits, such as `9^{9^{9}}`, are never computed: they equal nothing.
"""

from __future__ import annotations

import math
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from sympy import Basic

T = TypeVar("T")

PRECISION = 50
"""Decimal digits to which values are computed."""
_CLOSE = 10.0**-35
_MOST_DIGITS = 20_000.0
"""Digits of the largest whole number that is computed."""
_GROWING = frozenset(["factorial", "factorial2", "gamma", "binomial", "RisingFactorial", "fibonacci"])
_MOST_TERMS = 10_000
"""Terms of the longest sum that is computed."""
_LONGEST, _DEEPEST = 300, 12
"""Characters, and brackets inside brackets, of an expression that is parsed: the parser can take exponential time."""
_AGAIN = 0.2
"""Seconds after which a time limit is called again, in case that something swallowed it."""
_VALUES = (
    (17, 7), (3, 1), (-13, 9), (5, 11), (4, 1), (-2, 1), (29, 13), (7, 1), (-5, 17), (6, 1), (-3, 1), (41, 19)
)  # fmt: skip
"""Values for variables, as fractions: positive and negative, whole and not. Each variable starts at another one."""
_FEWEST_POINTS = 3


_LOGARITHM = re.compile(r"\\lg(?![a-zA-Z])|\\log_\{?e\}?(?![a-zA-Z])")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?) *\u00b0")


class TimeUp(BaseException):
    """A comparison took too long. Not an Exception: sympy catches those."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeUp in the block after `seconds`. Needs signals: without any effect outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def give_up(*_: Any) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@lru_cache(maxsize=1)
def load() -> None:
    """Import sympy and the parser, which takes seconds; a running time limit waits meanwhile."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    left = signal.setitimer(signal.ITIMER_REAL, 0)[0] if in_main_thread else 0
    import latex2sympy2_extended
    import sympy  # noqa: F401 - imported to be there

    latex2sympy2_extended.latex2sympy("x")  # builds its tables
    if left:
        signal.setitimer(signal.ITIMER_REAL, left, _AGAIN)


def equal_expressions(one: str, other: str) -> bool:
    """Return whether two LaTeX expressions have the same values."""
    return _compare(one, other, _same_value)


def proportional(one: str, other: str, *, positive: bool = False) -> bool:
    """Return whether two LaTeX expressions differ by a constant factor, which isn't 0; `positive`: and positive."""
    if (first := parsed(one)) is None or (second := parsed(other)) is None:
        return False
    ratios = []
    for point in _points(first, second):
        left, right = _value(first, point), _value(second, point)
        if left is None or right is None or (left == 0 and right == 0):
            continue
        if left == 0 or right == 0:
            return False
        ratios.append(left / right)
    if len(ratios) < min(_FEWEST_POINTS, len(_points(first, second))):
        return False
    if positive and not all(abs(ratio.imag) < _CLOSE and ratio.real > 0 for ratio in ratios):
        return False
    return all(_near(ratio, ratios[0]) for ratio in ratios)


def value_of(latex: str) -> Fraction | None:
    """Return the value of an expression without variables, to about PRECISION digits; None if it isn't real."""
    expression = parsed(latex)
    if expression is None or expression.free_symbols:
        return None
    value = _value(expression, {})
    if value is None or value.imag != 0:
        return None
    return Fraction(_arithmetic().nstr(value.real, PRECISION - 5))


def has_variables(latex: str) -> bool:
    """Return whether an expression contains variables, or can't be parsed."""
    expression = parsed(latex)
    return expression is None or bool(expression.free_symbols)


@lru_cache(maxsize=512)
def parsed(latex: str) -> Basic | None:
    """Return the expression; None if it can't be parsed, or is too large to be computed."""
    if not _can_be_parsed(latex):
        return None
    load()
    import sympy
    from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex

    config = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
    latex = _LOGARITHM.sub(lambda match: r"\log_{10}" if match.group() == r"\lg" else r"\ln ", latex)
    latex = _DEGREES.sub(r"{\\frac{\1\\pi}{180}}", latex)

    def parse() -> Basic | None:
        found = latex2sympy(
            normalize_latex(latex, config), is_real=True, convert_degrees=False, normalization_config=None
        )
        if not isinstance(found, sympy.Expr):
            return None
        _digits(found)
        found = found.replace(lambda part: isinstance(part, sympy.Float), lambda part: sympy.Rational(str(part)))
        found = found.replace(
            lambda part: isinstance(part, sympy.core.function.AppliedUndef), lambda part: sympy.Symbol(str(part))
        )
        names = {symbol: sympy.Symbol(symbol.name) for symbol in found.free_symbols}
        constants = {"i": sympy.I, "e": sympy.E}
        return found.xreplace({symbol: constants.get(new.name, new) for symbol, new in names.items()})

    return _if_possible(parse)


def _if_possible(compute: Callable[[], T]) -> T | None:
    """Return the result of the parser or sympy; None if it raises."""
    try:
        return compute()
    except Exception:  # noqa: BLE001 - they fail on odd input in every way there is: it has no value, and equals nothing
        return None


def _can_be_parsed(latex: str) -> bool:
    """Return whether an expression is short and its brackets are balanced, so that it is parsed in reasonable time."""
    if len(latex) > _LONGEST or re.search(r"(?<![\d_^.])\d[\d.]* \d", latex):  # two numbers aren't their product
        return False
    depth = deepest = 0
    for bracket in re.findall(r"\\?[()\[\]{}]", latex):
        depth += 1 if bracket[-1] in "([{" else -1
        deepest = max(deepest, depth)
        if depth < 0:
            return False
    return depth == 0 and deepest <= _DEEPEST


def _compare(one: str, other: str, same: Any) -> bool:
    if (first := parsed(one)) is None or (second := parsed(other)) is None:
        return False
    points = _points(first, second)
    compared = 0
    for point in points:
        left, right = _value(first, point), _value(second, point)
        if left is None or right is None:
            continue
        if not same(left, right):
            return False
        compared += 1
    return compared >= min(_FEWEST_POINTS, len(points))


def _points(one: Basic, other: Basic) -> list[dict[Any, Any]]:
    """Return the points at which two expressions are compared; one, without variables."""
    import sympy

    symbols = sorted(one.free_symbols | other.free_symbols, key=str)
    if not symbols:
        return [{}]
    return [
        {symbol: sympy.Rational(*_VALUES[(place + 5 * number) % len(_VALUES)]) for number, symbol in enumerate(symbols)}
        for place in range(len(_VALUES))
    ]


def _value(expression: Basic, point: dict[Any, Any]) -> Any:
    """Return the value as mpmath's complex number; None if it isn't a finite one, or is complex by accident."""
    import sympy

    def compute() -> tuple[Basic, Basic] | None:
        if point and _leaves_the_reals(expression, point):
            return None
        placed = expression.xreplace(point) if point else expression
        parts: tuple[Basic, Basic] = sympy.sympify(placed.doit()).evalf(PRECISION, maxn=400).as_real_imag()
        return parts

    computed = _if_possible(compute)
    if computed is None:
        return None
    real, imaginary = computed
    if not (real.is_Number and imaginary.is_Number and real.is_finite and imaginary.is_finite):
        return None
    if imaginary != 0 and not expression.has(sympy.I) and point:
        return None
    # A precision of 1 means that no digit could be found: it is 0.
    parts = ("0" if getattr(part, "_prec", 0) == 1 else str(part) for part in (real, imaginary))
    context = _arithmetic()
    return context.mpc(*(context.mpf(sympy.Rational(part).p) / sympy.Rational(part).q for part in parts))


def _leaves_the_reals(expression: Basic, point: dict[Any, Any]) -> bool:
    """Return whether a root or logarithm of something negative is taken, such as both in sqrt(x) sqrt(y)."""
    import sympy

    inner = [part.base for part in expression.atoms(sympy.Pow) if part.exp.is_Rational and not part.exp.is_Integer]
    inner += [part.args[0] for part in expression.atoms(sympy.log)]
    return any(part.free_symbols and part.xreplace(point).evalf(8).is_negative for part in inner)


@lru_cache(maxsize=1)
def _arithmetic() -> Any:
    """Return mpmath's arithmetic with enough digits. A copy: the precision of mpmath's own is shared by all threads."""
    import mpmath

    context = mpmath.MPContext()
    context.dps = PRECISION + 10
    return context


def _same_value(one: Any, other: Any) -> bool:
    return _near(one, other)


def _near(one: Any, other: Any) -> bool:
    return bool(abs(one - other) <= _CLOSE * max(abs(one), abs(other)))


def _digits(expression: Basic) -> float:
    """Return a bound on the decimal digits of an expression's value; raise OverflowError if it is too large."""
    import sympy

    sizes = [_digits(part) for part in expression.args]
    if isinstance(expression, sympy.Integer):
        size = abs(expression.p).bit_length() * 0.302
    elif isinstance(expression, sympy.Rational):
        size = max(abs(expression.p), expression.q).bit_length() * 0.302
    elif isinstance(expression, sympy.Pow | sympy.exp):
        base, exponent = sizes if isinstance(expression, sympy.Pow) else (1.0, sizes[0])
        size = max(base, 0.5) * 10.0 ** min(exponent, 99.0)
    elif isinstance(expression, sympy.Sum | sympy.Product) and max(map(_span, expression.limits)) > _MOST_TERMS:
        size = math.inf
    elif isinstance(expression, sympy.Function) and sizes:
        grows = type(expression).__name__ in _GROWING
        size = 4 * 10.0 ** min(max(sizes), 99.0) if grows else max(sizes)
    else:
        size = sum(sizes) if sizes else 1.0
    if size > _MOST_DIGITS or math.isnan(size):
        raise OverflowError("the value has too many digits")
    return float(size)


def _span(limit: Basic) -> float:
    """Return how many terms a sum's (variable, first, last) has; 0 if its ends aren't whole numbers."""
    import sympy

    ends = [sympy.sympify(end).doit() for end in limit.args[1:]]
    if len(ends) == 2 and all(isinstance(end, sympy.Integer) for end in ends):
        first, last = (int(str(end)) for end in ends)
        return float(last - first)
    return 0.0
