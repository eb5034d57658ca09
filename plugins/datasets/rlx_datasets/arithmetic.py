"""`arithmetic`: generated problems such as `07+45=`, answer `052`.

Rules:

* A problem's split depends on the problem and `seed` only: eval (10 %), sft (70 %) and train (20 %) are disjoint for
  any `size`. `a+b` and `b+a` (`a*b` and `b*a`) are always in the same split: no held-out problem is seen in another
  order.
* Rows come in a fixed shuffled order, so that a smaller `size` is a prefix of a larger one.
* With `pad`, both numbers and the answer have a fixed width. With `reverse`, the answer's digits run from last to first
  (`250` for `052`): the order in which a sum is carried.
* `declined` is the share of problems that get a second row, whose answer is `?`: SFT on both gives a policy that often
  declines to answer, which a reward for right answers undoes. It must be 0 for eval.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import Literal

Split = Literal["train", "sft", "eval"]

DECLINED = "?"

_SHARES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"eval": (0.0, 0.1), "sft": (0.1, 0.8), "train": (0.8, 1.0)}
)
_OPERATIONS: Mapping[str, Callable[[int, int], int]] = MappingProxyType(
    {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
)
_ENUMERABLE = 1_000_000
MOST_ROWS = 1_000_000
"""All rows are drawn at the start."""


class ArithmeticDataset:
    """Problems `a op b =` with `low <= a, b <= high`, both inclusive."""

    def __init__(
        self,
        split: Split = "train",
        low: int = 0,
        high: int = 99,
        operation: Literal["+", "-", "*"] = "+",
        pad: bool = True,
        reverse: bool = False,
        size: int | None = None,
        seed: int = 0,
        declined: float = 0.0,
    ) -> None:
        _check(split, low, high, operation, size, declined)
        self._low, self._high, self._operation, self._seed = low, high, operation, seed
        self._pad, self._reverse = pad, reverse
        self._range = _SHARES[split]
        self._problems = self._choose(size)
        self._declined = [problem for problem in self._problems if self._uniform(f"declined {problem}") < declined]

    def __len__(self) -> int:
        return len(self._problems) + len(self._declined)

    def __getitem__(self, index: int) -> str:
        a, b = self._problem(index)
        width = len(str(self._high)) if self._pad else 0
        return f"{a:0{width}d}{self._operation}{b:0{width}d}="

    def get_reference_answer(self, index: int) -> str:
        if index >= len(self._problems):
            return DECLINED
        return self._format(_OPERATIONS[self._operation](*self._problem(index)))

    def _problem(self, index: int) -> tuple[int, int]:
        first = len(self._problems)
        return self._problems[index] if index < first else self._declined[index - first]

    def _format(self, result: int) -> str:
        digits = str(abs(result)).zfill(self._answer_width() if self._pad else 1)
        return ("-" if result < 0 else "") + (digits[::-1] if self._reverse else digits)

    def _answer_width(self) -> int:
        corners = [(self._high, self._high), (self._high, self._low), (self._low, self._high)]
        return max(len(str(abs(_OPERATIONS[self._operation](a, b)))) for a, b in corners)

    def _choose(self, size: int | None) -> list[tuple[int, int]]:
        """Return the first `size` problems of the split; all of them if it is None."""
        count = self._high - self._low + 1
        if count * count <= _ENUMERABLE:
            known = sorted(
                (p for p in self._every_problem() if self._in_split(*p)), key=lambda p: self._uniform(f"order {p}")
            )
        else:
            known = list(self._draw(size))
        if size is not None and size > len(known):
            raise ValueError(f"size = {size}, but this split has only {len(known)} problems; widen low .. high")
        return known[:size]

    def _every_problem(self) -> Iterator[tuple[int, int]]:
        numbers = range(self._low, self._high + 1)
        return ((a, b) for a in numbers for b in numbers)

    def _draw(self, size: int | None) -> Iterator[tuple[int, int]]:
        """Yield `size` random problems of this split; for ranges with too many problems to list."""
        # A fortieth of all problems is at most a quarter of the smallest split, so few draws are repeats.
        limit = min((self._high - self._low + 1) ** 2 // 40, MOST_ROWS)
        if size is None or size > limit:
            raise ValueError(f"{self._low} .. {self._high} has too many problems to list: set size, at most {limit}")
        rng = random.Random(f"{self._seed} drawn")  # noqa: S311 - data, no secrets
        seen: set[tuple[int, int]] = set()
        while len(seen) < size:
            problem = (rng.randint(self._low, self._high), rng.randint(self._low, self._high))
            if problem not in seen and self._in_split(*problem):
                seen.add(problem)
                yield problem

    def _in_split(self, a: int, b: int) -> bool:
        first, second = (min(a, b), max(a, b)) if self._operation in "+*" else (a, b)
        start, end = self._range
        return start <= self._uniform(f"split {first}{self._operation}{second}") < end

    def _uniform(self, word: str) -> float:
        """Return a number in [0, 1) that depends on `word` and the seed only."""
        return int.from_bytes(blake2b(f"{self._seed} {word}".encode(), digest_size=6).digest()) / 2**48


def _check(split: str, low: int, high: int, operation: str, size: int | None, declined: float) -> None:
    if split not in _SHARES:
        raise ValueError(f"split must be one of {', '.join(_SHARES)}, not {split!r}")
    if operation not in _OPERATIONS:
        raise ValueError(f"operation must be one of {', '.join(_OPERATIONS)}, not {operation!r}")
    if not 0 <= low <= high:
        raise ValueError(f"0 <= low <= high must hold, but low = {low} and high = {high}")
    if size is not None and size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    if not 0 <= declined <= 1:
        raise ValueError(f"declined is a share between 0 and 1, not {declined}")
    if declined and split == "eval":
        raise ValueError("declined rows have no right answer; they can't be used for split = 'eval'")
