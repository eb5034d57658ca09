"""Decides which groups a resumed run uses, and which it samples again, so that none is lost or trained twice.

The run continues from the checkpoint of version v; all that came after it is undone.

Rules:

* Synchronous: groups from the checkpoint's frontier on are deleted from the ledger and sampled again under the same
  ids.
* With staleness: groups trained by steps from v on count as finished again. A finished group is used unless it may hold
  tokens of versions after v (those weights are gone, and training makes others) or is too old. Every other group that
  is neither trained nor dropped is sampled again under its own id, so its prompt keeps its place in the order.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlx.controller.groups.ledger import Ledger, LedgerRow
from rlx.controller.groups.staleness import PendingGroup, Window
from rlx.errors import RunError
from rlx.transport.messages import GroupDone


@dataclass(frozen=True)
class ResumePlan:
    """The groups that a resumed run uses or samples again."""

    reuse: list[LedgerRow]
    """Finished groups to use as they are."""
    resample: list[int]
    """Ids of groups to sample again; none of them is in `reuse`."""
    next_id: int
    """The first id that was never used."""


def plan_resume(rows: list[LedgerRow], *, version: int, max_staleness: int, next_id: int) -> ResumePlan:
    """Return the groups to use and to sample again (pure logic).

    `rows`: the ledger after its rewind. `version`, `next_id`: the values of the checkpoint.
    """
    unfinished = [row for row in rows if row.state in {"leased", "finished"}]
    reuse = [
        row
        for row in unfinished
        if row.state == "finished"
        and row.stored
        and row.newest_version is not None
        and row.newest_version <= version <= row.lease_version + max_staleness
    ]
    known = {row.group_id for row in rows}
    last = max([next_id, *(group_id + 1 for group_id in known)])
    missing = set(range(last)) - known
    resample = {row.group_id for row in unfinished} - {row.group_id for row in reuse} | missing
    return ResumePlan(reuse, sorted(resample), last)


def reconcile(ledger: Ledger, window: Window, *, version: int, frontier: int) -> dict[int, GroupDone]:
    """Rewind the ledger to the checkpoint, restore the window, and return the finished groups to use.

    Raises RunError if the ledger lacks the episodes of one of them.
    """
    ledger.rewind(version, frontier if window.max_staleness == 0 else None)
    ledger.flush()
    plan = plan_resume(ledger.rows(), version=version, max_staleness=window.max_staleness, next_id=frontier)
    finished = {}
    for row in plan.reuse:
        message = ledger.stored(row.group_id)
        if message is None:
            raise RunError(f"the ledger has group {row.group_id} as finished, but lacks its episodes")
        finished[row.group_id] = message
    window.next_id = plan.next_id
    pending = (PendingGroup(row.group_id, row.lease_version, row.newest_version) for row in plan.reuse)
    window.restore(pending, plan.resample)
    return finished
