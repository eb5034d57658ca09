"""Counts dropped groups, and fails the run if too many are dropped in a row: nothing is left to learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rlx.errors import RunError

MAX_FAILED = 16
"""A run fails after this many failed groups in a row; with large steps, after the groups of four steps."""
MAX_UNINFORMATIVE = 64
"""The same for uninformative groups. It is higher, since prompts that are too hard or too easy are common."""
SHOWN_TOTALS = 10


class Drops:
    """Counts groups that were dropped because they `failed` or because they are `uninformative`."""

    def __init__(self, groups_per_step: int) -> None:
        self.failed = 0
        self.uninformative = 0
        self._max_failed = max(MAX_FAILED, 4 * groups_per_step)
        self._max_uninformative = max(MAX_UNINFORMATIVE, 4 * groups_per_step)
        self._failed_in_row = 0
        self._totals_in_row: Counter[str] = Counter()

    def kept(self) -> None:
        """Record that a group was kept for training, which resets the counts of groups dropped in a row."""
        self._failed_in_row = 0
        self._totals_in_row.clear()

    def drop_failed(self, cause: str) -> None:
        """Count a failed group. Raises RunError if too many have failed in a row."""
        self.failed += 1
        self._failed_in_row += 1
        if self._failed_in_row >= self._max_failed:
            raise RunError(
                f"{self._failed_in_row} groups in a row were dropped and none finished. The last one: {cause}. "
                "Nothing is left to learn from. Fix the cause; with on_error = 'fail' the first one ends the run."
            )

    def drop_uninformative(self, totals: Sequence[float | None]) -> str:
        """Count an uninformative group and return the reason to record.

        Raises RunError if too many groups in a row were uninformative.
        """
        self.uninformative += 1
        value = next((f"{total:g}" for total in totals if total is not None), "not scored")
        self._totals_in_row[value] += 1
        if self._totals_in_row.total() >= self._max_uninformative:
            raise RunError(
                f"{self._totals_in_row.total()} groups in a row were dropped as uninformative: all completions of "
                f"a group had the same total. Groups by that total: {_histogram(self._totals_in_row)}. The prompts are "
                "too hard or too easy for this policy, or the rewards do not distinguish its completions. Use other "
                "prompts, sample more of each ([algorithm] group_size), or keep such groups "
                "(drop_uninformative = false)."
            )
        return f"uninformative: the total of all its completions is {value}"


def _histogram(totals: Counter[str]) -> str:
    common = totals.most_common(SHOWN_TOTALS)
    others = len(totals) - len(common)
    shown = [f"{value}: {count}" for value, count in common]
    return ", ".join([*shown, f"and {others} other totals"] if others else shown)
