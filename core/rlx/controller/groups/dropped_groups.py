"""Groups that were dropped: how many, why, and when to give up.

A run ends where group after group is dropped and none is kept: nothing is left to learn from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rlx.errors import RunError

MOST_FAILED = 16
MOST_UNINFORMATIVE = 64
"""In a row, and at least four steps of them. Hard or easy prompts are common; failures should not be."""
SHOWN = 10


class Drops:
    """`failed`: no rewards could be had. `uninformative`: rewards that teach nothing."""

    def __init__(self, groups_per_step: int) -> None:
        self.failed = 0
        self.uninformative = 0
        self._most_failed = max(MOST_FAILED, 4 * groups_per_step)
        self._most_uninformative = max(MOST_UNINFORMATIVE, 4 * groups_per_step)
        self._failed_in_row = 0
        self._totals_in_row: Counter[str] = Counter()

    def kept(self) -> None:
        """A group is there to be learnt from."""
        self._failed_in_row = 0
        self._totals_in_row.clear()

    def fail(self, cause: str) -> None:
        """Raises RunError where too many have failed in a row."""
        self.failed += 1
        self._failed_in_row += 1
        if self._failed_in_row >= self._most_failed:
            raise RunError(
                f"{self._failed_in_row} groups in a row were dropped and none finished. The last one: {cause}. "
                "Nothing is left to learn from. "
                "Mend this; with on_error = 'fail' the first one would have ended the run."
            )

    def teach_nothing(self, totals: Sequence[float | None]) -> str:
        """Why the group is dropped. Raises RunError where too many have taught nothing in a row."""
        self.uninformative += 1
        value = next((f"{total:g}" for total in totals if total is not None), "not scored")
        self._totals_in_row[value] += 1
        if self._totals_in_row.total() >= self._most_uninformative:
            raise RunError(
                f"{self._totals_in_row.total()} groups in a row were dropped as uninformative: the completions of each "
                f"had one and the same total. Groups by that total: {self._histogram()}. The prompts are too hard or "
                "too easy for this policy, or the rewards cannot tell its completions apart. Give it other prompts, "
                "sample more of each ([algorithm] group_size), or keep such groups (drop_uninformative = false)."
            )
        return f"uninformative: the total of all its completions is {value}"

    def _histogram(self) -> str:
        common = self._totals_in_row.most_common(SHOWN)
        others = len(self._totals_in_row) - len(common)
        shown = [f"{value}: {count}" for value, count in common]
        return ", ".join([*shown, f"and {others} other totals"] if others else shown)
