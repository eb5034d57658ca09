"""Rows of a dataset that were dropped because they can't be used: counted by reason, and the first few named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from rlx.errors import BadRowReason, RunError
from rlx.transport.messages import BadRow

MAX_IN_ROW = 1024
"""A run fails after this many bad rows in a row, or after four steps of them if that is more; or once a whole epoch is
bad. Dropping them costs little, and files are often sorted.
"""
NAMED_ROWS = 5
"""Rows that are named for each reason."""

REASONS: Mapping[str, str] = {
    "too_long": "too long",
    "dataset": "the dataset raised",
    "packer": "refused by the packer or the chat template",
    "engine": "ended by the engine with an error",
    "untrained": "without a token to train on",
}
"""Reason -> its name for people: `dropped: too long`."""


def most_in_row(groups_per_step: int, epoch_rows: int) -> int:
    """Return after how many bad rows in a row a run fails."""
    return min(epoch_rows, max(MAX_IN_ROW, 4 * groups_per_step))


class BadRows:
    """The rows of one dataset that were dropped. `log(level, text)` gets the first few of each reason.

    dataset: its table in the config. most: more than these in a row fail the run; None for no limit.
    """

    def __init__(self, dataset: str, log: Callable[[str, str], None], most: int | None = None) -> None:
        self._dataset = dataset
        self._log = log
        self._most = most
        self._in_row = 0
        self.counts: Counter[str] = Counter()
        """Reason -> rows dropped, again in each epoch."""
        self.named: list[BadRow] = []
        self._silent: set[str] = set()

    def restore(self, counts: Mapping[str, int], named: Sequence[BadRow]) -> None:
        """Continue the counts of an earlier attempt of the run."""
        self.counts = Counter(counts)
        self.named = [bad for bad in named if bad.dataset == self._dataset]

    def good(self) -> None:
        """Record that a row could be used."""
        self._in_row = 0

    def drop(self, row: int, reason: BadRowReason, why: str) -> None:
        """Count a row that is dropped. Raises RunError if too many in a row were."""
        self.counts[reason] += 1
        self._in_row += 1
        self._name(BadRow(row, reason, why, self._dataset))
        if self._most is not None and self._in_row >= self._most:
            raise RunError(
                f"{self._in_row} rows of [{self._dataset}] in a row can't be used: perhaps none can. The last one "
                f"({REASONS[reason]}): {why}"
            )

    def _name(self, bad: BadRow) -> None:
        named = [known for known in self.named if known.reason == bad.reason]
        if any(known.row == bad.row for known in named):
            return
        if len(named) < NAMED_ROWS:
            self.named.append(bad)
            self._log("warning", f"row {bad.row} of [{self._dataset}] dropped ({REASONS[bad.reason]}): {bad.why}")
        elif bad.reason not in self._silent:
            self._silent.add(bad.reason)
            self._log("warning", f"[{self._dataset}] has further such rows ({REASONS[bad.reason]}): they are counted")
