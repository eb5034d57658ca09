"""Counts of the groups that were dropped, and when to give up.

A run ends if too many groups are dropped in a row without one that is kept: there is nothing left to learn from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rlx.errors import RunError

MOST_FAILED = 16
"""Failed groups in a row that end a run, but at least four steps of them."""
MOST_UNINFORMATIVE = 64
"""The same for uninformative groups: hard or easy prompts are common, failures should not be."""
SHOWN = 10


class Drops:
    """Groups that were dropped because they `failed`, or because they are `uninformative`."""

    def __init__(self, groups_per_step: int) -> None:
        self.failed = 0
        self.uninformative = 0
        self._most_failed = max(MOST_FAILED, 4 * groups_per_step)
        self._most_uninformative = max(MOST_UNINFORMATIVE, 4 * groups_per_step)
        self._failed_in_row = 0
        self._totals_in_row: Counter[str] = Counter()

    def kept(self) -> None:
        """Note that a group was kept for training."""
        self._failed_in_row = 0
        self._totals_in_row.clear()

    def drop_failed(self, cause: str) -> None:
        """Count a failed group. Raises RunError if too many have failed in a row."""
        self.failed += 1
        self._failed_in_row += 1
        if self._failed_in_row >= self._most_failed:
            raise RunError(
                f"{self._failed_in_row} groups in a row were dropped and none finished. The last one: {cause}. "
                "Nothing is left to learn from. Fix this; with on_error = 'fail' the first one would have ended the "
                "run."
            )

    def drop_uninformative(self, totals: Sequence[float | None]) -> str:
        """Count an uninformative group and return the reason to record.

        Raises RunError if too many groups in a row were uninformative.
        """
        self.uninformative += 1
        value = next((f"{total:g}" for total in totals if total is not None), "not scored")
        self._totals_in_row[value] += 1
        if self._totals_in_row.total() >= self._most_uninformative:
            raise RunError(
                f"{self._totals_in_row.total()} groups in a row were dropped as uninformative: the completions of each "
                f"had one and the same total. Groups by that total: {_histogram(self._totals_in_row)}. The prompts are "
                "too hard or too easy for this policy, or the rewards do not distinguish its completions. Use other "
                "prompts, sample more of each ([algorithm] group_size), or keep such groups "
                "(drop_uninformative = false)."
            )
        return f"uninformative: the total of all its completions is {value}"


def _histogram(totals: Counter[str]) -> str:
    common = totals.most_common(SHOWN)
    others = len(totals) - len(common)
    shown = [f"{value}: {count}" for value, count in common]
    return ", ".join([*shown, f"and {others} other totals"] if others else shown)
