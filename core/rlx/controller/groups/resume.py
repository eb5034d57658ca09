"""What a resumed run makes of the ledger: nothing is lost, nothing is trained twice.

The run goes on from the checkpoint of version v, whatever happened after it.

* Synchronous: groups from the checkpoint's frontier on did not happen. They are forgotten and sampled again, under
  the same ids.
* With staleness: steps from v on did not happen; their groups count as finished again. A finished group is used
  again unless it may hold tokens of versions after v (those weights are gone: training makes others) or is too old.
  Every other group that is neither trained nor dropped is sampled again under its own id, so its prompt keeps its
  place.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlx.controller.groups.ledger import Ledger, Row
from rlx.controller.groups.staleness import Slot, Window
from rlx.errors import RunError
from rlx.transport.messages import GroupDone


@dataclass(frozen=True)
class Plan:
    """`reuse` and `again` are disjoint; `next_id` is the first id that was never used."""

    reuse: list[Row]
    again: list[int]
    next_id: int


def plan(rows: list[Row], *, version: int, max_staleness: int, next_id: int) -> Plan:
    """Pure. `rows`: the ledger after its rewind; `next_id`: the checkpoint's frontier."""
    open_rows = [row for row in rows if row.state in {"leased", "finished"}]
    reuse = [row for row in open_rows if _usable(row, version=version, max_staleness=max_staleness)]
    known = {row.group_id for row in rows}
    last = max([next_id, *(group_id + 1 for group_id in known)])
    missing = set(range(last)) - known
    again = {row.group_id for row in open_rows} - {row.group_id for row in reuse} | missing
    return Plan(reuse, sorted(again), last)


def reconcile(ledger: Ledger, window: Window, *, version: int, frontier: int) -> dict[int, GroupDone]:
    """Rewinds the ledger to the checkpoint and restores the window. Returns the finished groups that are used again."""
    ledger.rewind(version, frontier if window.max_staleness == 0 else None)
    ledger.flush()
    found = plan(ledger.rows(), version=version, max_staleness=window.max_staleness, next_id=frontier)
    finished = {row.group_id: _stored(ledger, row.group_id) for row in found.reuse}
    window.next_id = found.next_id
    window.restore((Slot(row.group_id, row.lease_version, row.newest_version) for row in found.reuse), found.again)
    return finished


def _usable(row: Row, *, version: int, max_staleness: int) -> bool:
    if row.state != "finished" or row.newest_version is None or not row.stored:
        return False
    return row.newest_version <= version <= row.lease_version + max_staleness


def _stored(ledger: Ledger, group_id: int) -> GroupDone:
    message = ledger.stored(group_id)
    if message is None:
        raise RunError(f"the ledger lacks the episodes of group {group_id}, which it has as finished")
    return message
