"""`countdown`: problems that ask for an expression with given numbers and a given value; for the reward `countdown`.

Rules:

* Problems are generated, and each has a solution: the target is the value of a random expression that uses each number
  once, without fractions or intermediate results below 1.
* A problem's split depends on its numbers (in any order), its target and `seed` only: no held-out problem (eval, 10 %)
  is seen in training, for any other options. No problem occurs twice.
* A smaller `size` is a prefix of a larger one.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from random import Random
from typing import Any, Literal

from rlx_datasets.prompts import THINK_AND_ANSWER, Prompt, make_prompt

Problem = tuple[tuple[int, ...], int]
Split = Literal["train", "eval"]

INSTRUCTION = (
    "Find an arithmetic expression that equals the target. It uses each of the numbers exactly once, the operations "
    f"+, -, * and /, and parentheses. {THINK_AND_ANSWER} The answer is the expression, without an equals sign."
)
HELD_OUT = 0.1
MOST_ROWS = 1_000_000
MOST_NUMBERS = 8
"""Random expressions of more numbers hardly ever have a small value."""
_PATIENCE = 5000
"""Give up after this many draws in a row without a new problem."""
_PILOT = 300
"""After this many draws, the work that is left is estimated."""
_MOST_OPERATIONS = 8_000_000
"""Operations of all expressions to try, at most: some 15 seconds."""
_TRIES = 50
"""Expressions tried with the same numbers until one has a small enough value."""


class CountdownDataset:
    """Problems with `min_numbers` to `max_numbers` numbers of `low` .. `high`, and targets up to `max_target`.

    chat: whether a prompt is chat messages (for models with a chat template) or text.
    instruction: how to answer; a system message, or the beginning of the text.
    """

    def __init__(
        self,
        split: Split = "train",
        size: int = 10_000,
        min_numbers: int = 3,
        max_numbers: int = 4,
        low: int = 1,
        high: int = 99,
        max_target: int = 100,
        seed: int = 0,
        chat: bool = True,
        instruction: str = INSTRUCTION,
    ) -> None:
        _check(split, size, min_numbers, max_numbers, low, high, max_target)
        self._counts, self._range, self._max_target = (min_numbers, max_numbers), (low, high), max_target
        self._split, self._seed = split, seed
        self._chat, self._instruction = chat, instruction
        self._problems = list(self._distinct(size))

    def __len__(self) -> int:
        return len(self._problems)

    def __getitem__(self, index: int) -> Prompt:
        numbers, target = self._problems[index]
        question = f"Numbers: {', '.join(map(str, numbers))}. Target: {target}."
        return make_prompt(self._instruction, question, chat=self._chat, lead="Answer:")

    def get_reference_answer(self, index: int) -> dict[str, Any]:
        numbers, target = self._problems[index]
        return {"numbers": list(numbers), "target": target}

    def _distinct(self, size: int) -> Iterator[Problem]:
        rng = Random(f"{self._seed} {self._split}")  # noqa: S311 - data, no secrets
        seen: set[Problem] = set()
        draws = missed = expressions = 0
        while len(seen) < size:
            problem, tried = self._draw(rng)
            draws, expressions = draws + 1, expressions + tried
            if draws == _PILOT and expressions * self._counts[1] * size > _MOST_OPERATIONS * max(len(seen), 1):
                raise ValueError(
                    f"only {len(seen)} of {expressions:,} random expressions gave a problem, which is too few for "
                    f"size = {size}: use fewer or smaller numbers, a larger max_target, or a smaller size"
                )
            if problem is None or _key(problem) in seen:
                missed += 1
                if missed == _PATIENCE:
                    raise ValueError(f"size = {size}, but there are hardly more than {len(seen)} such problems")
                continue
            seen.add(_key(problem))
            missed = 0
            yield problem

    def _draw(self, rng: Random) -> tuple[Problem | None, int]:
        """Draw a problem, and count the expressions that were tried for it.

        The problem is None if it isn't of this split or has too large a target.
        """
        numbers = [rng.randint(*self._range) for _ in range(rng.randint(*self._counts))]
        for tried in range(1, _TRIES + 1):
            target = _value(rng, numbers)
            if target <= self._max_target:
                problem = tuple(numbers), target
                return problem if self._is_held_out(problem) == (self._split == "eval") else None, tried
        return None, _TRIES

    def _is_held_out(self, problem: Problem) -> bool:
        word = f"{self._seed} {_key(problem)}".encode()
        return int.from_bytes(blake2b(word, digest_size=6).digest()) < HELD_OUT * 2**48


def _key(problem: Problem) -> Problem:
    """Return a key that is equal for problems that differ only in the order of their numbers."""
    numbers, target = problem
    return tuple(sorted(numbers)), target


def _value(rng: Random, numbers: list[int]) -> int:
    """Return the value of a random expression that uses each number once."""
    left = list(numbers)
    while len(left) > 1:
        a, b = (left.pop(rng.randrange(len(left))) for _ in range(2))
        left.append(rng.choice(_results(max(a, b), min(a, b))))
    return left[0]


def _results(a: int, b: int) -> list[int]:
    """Return the results of all operations on a >= b that are whole and at least 1."""
    return [a + b, a * b, *([a - b] if a > b else []), *([a // b] if a % b == 0 else [])]


def _check(split: str, size: int, fewest: int, most: int, low: int, high: int, max_target: int) -> None:
    if split not in {"train", "eval"}:
        raise ValueError(f"split must be train or eval, not {split!r}")
    if size < 1 or max_target < 1:
        raise ValueError(f"size and max_target must be at least 1, but size = {size} and max_target = {max_target}")
    if size > MOST_ROWS:
        raise ValueError(f"size is at most {MOST_ROWS:,}, not {size:,}: all problems are generated at the start")
    if not 2 <= fewest <= most <= MOST_NUMBERS:
        raise ValueError(
            f"2 <= min_numbers <= max_numbers <= {MOST_NUMBERS} must hold, but they are {fewest} and {most}"
        )
    if not 1 <= low <= high:
        raise ValueError(f"1 <= low <= high must hold, but low = {low} and high = {high}")
