"""Measure the rewards for mathematics: pairs per second on one core, median and slowest, against math-verify.

Groups of 8 completions share a reference, half of them are right, and no two groups have the same numbers. `numbers`:
whole numbers, decimals and fractions. `expressions`: roots, polynomials, logarithms, tuples, equations. `mixed`: 4 of 5
are numbers. math-verify does what `math` does with a box: it parses both sides, and verifies.

    python benchmarks/math_rewards.py [--groups 60] [--runs 3]
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

from rlx_rewards import boxed_math_reward_fn, direct_math_reward_fn, math_reward_fn
from rlx_rewards.answers.algebra import parsed
from rlx_rewards.answers.clean import cleaned
from rlx_rewards.answers.read import read

GROUP = 8
Pair = tuple[str, str]
NUMBERS = ("{a}", "-{a}", "{a}.5", "\\frac{{{a}}}{{{b}}}", "{a}\\text{{ km}}", "{a}\\%", "1{a},000")
EXPRESSIONS = (
    "{a}\\sqrt{{{b}}}",
    "x^2 + {a}x - {b}",
    "\\frac{{{a}\\pi}}{{{b}}}",
    "({a}, \\sqrt{{{b}}})",
    "y = {a}x + {b}",
    "\\log_{{{b}}} {a}",
    "{a} + {b}i",
)


def pairs(forms: tuple[str, ...], groups: int, seed: int) -> list[Pair]:
    """Return (answer, reference) of `groups` groups; every second answer is right."""
    numbers = random.Random(seed)
    found = []
    for group in range(groups):
        form = forms[group % len(forms)]
        a, b = numbers.randrange(11, 9999), numbers.choice((3, 7, 11, 13, 17, 19, 23))
        reference = form.format(a=a, b=b)
        found += [(form.format(a=a + (i % 2) * (i + 1), b=b), reference) for i in range(GROUP)]
    return found


def math_verify(answer: str, reference: str) -> float:
    """Score as math-verify's documentation does it."""
    kinds = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]
    return float(verify(parse(f"\\boxed{{{reference}}}", kinds), parse(f"\\boxed{{{answer}}}", kinds)))


def rewards() -> dict[str, Callable[[str, str], float]]:
    return {
        "math": lambda answer, reference: math_reward_fn(f"So it is $\\boxed{{{answer}}}$.", reference),
        "boxed_math": lambda answer, reference: boxed_math_reward_fn(f"\\boxed{{{answer}}}", reference),
        "direct_math": lambda answer, reference: direct_math_reward_fn(f"Answer: {answer}", reference),
        "math-verify": math_verify,
    }


def seconds(score: Callable[[str, str], float], work: list[Pair]) -> list[float]:
    """Return the processor time of each call; nothing is remembered from calls for another reward."""
    read.cache_clear()
    cleaned.cache_clear()
    parsed.cache_clear()
    times = []
    for pair in work:
        began = time.process_time()
        score(*pair)
        times.append(time.process_time() - began)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the rewards for mathematics.")
    parser.add_argument("--groups", type=int, default=60)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    mixes = {"numbers": NUMBERS, "expressions": EXPRESSIONS, "mixed": NUMBERS * 4 + EXPRESSIONS}
    for score in rewards().values():  # imports, and the parser's tables
        seconds(score, pairs(EXPRESSIONS + NUMBERS, 28, seed=999))
    for mix, forms in mixes.items():
        rates: dict[str, list[float]] = {name: [] for name in rewards()}
        medians, slowest = {}, {}
        for run in range(options.runs):
            work = pairs(forms, options.groups, run)
            for name, score in rewards().items():
                times = seconds(score, work)
                rates[name].append(len(work) / sum(times))
                medians[name], slowest[name] = statistics.median(times), max(times)
        base = statistics.median(rates["math-verify"])
        for name, measured in rates.items():
            rate = statistics.median(measured)
            print(
                f"{mix:12}{name:12}{rate:10,.0f} pairs/s a core  median {medians[name] * 1e3:7.2f} ms"
                f"  slowest {slowest[name] * 1e3:7.1f} ms  {rate / base:6.1f}x math-verify"
            )


if __name__ == "__main__":
    main()
