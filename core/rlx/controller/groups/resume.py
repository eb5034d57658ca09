"""Decides which groups a resumed run uses, and which it samples again, so that none is lost or trained twice.

The run continues from the checkpoint of version v; all that came after it is undone.

Rules:

* The checkpoint decides: of the ids below its frontier it knows those that were neither trained nor dropped, and no
  other id was closed. Its counts are checked: v steps have trained v * G groups.
* The ledger only lends finished groups, so it may be older or newer than the checkpoint, damaged or missing. Groups
  that it has lost are restored from the checkpoint, and reported.
* Synchronous: nothing is used again. All groups of a step are sampled together, under the same ids.
* With staleness: a finished group is used unless it may hold tokens of versions after v (those weights are gone, and
  training makes others), is too old, or belongs to another row. Every other group is sampled again under its own id, so
  its prompt keeps its place in the order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from msgspec import structs

from rlx.controller.groups.ledger import Ledger, LedgerRow
from rlx.controller.groups.staleness import PendingGroup, Window
from rlx.controller.records.checkpoint import SavedState
from rlx.errors import RunError
from rlx.transport.messages import GroupDone


@dataclass(frozen=True)
class ResumePlan:
    """The fate of each group in a resume."""

    reuse: list[LedgerRow]
    """Finished groups to use as they are."""
    resample: list[int]
    """Ids of groups to sample again; none of them is in `reuse`."""
    next_id: int
    """The first id that was never used."""
    restore: list[int]
    """Ids that the checkpoint has closed, and the ledger has not."""
    too_old: int
    """Finished groups that are sampled again since the run has become stricter about their age."""


def open_groups(saved: SavedState) -> set[int]:
    """Return the ids below the checkpoint's frontier that it has neither trained nor dropped (pure logic).

    Raises RunError if the counts of the checkpoint do not agree.
    """
    expected = saved.version * saved.groups_per_step
    untrained = saved.untrained or []
    found = set(untrained)
    closed = saved.next_group_id - len(found)
    known = len(found) == len(untrained) and all(0 <= group_id < saved.next_group_id for group_id in found)
    # Fewer are closed than counted if too many drops ended the run: the last is sampled again.
    if not known or not expected <= closed <= expected + saved.groups_dropped:
        raise RunError(
            f"the checkpoint of step {saved.version} contradicts itself: {closed} of its {saved.next_group_id} groups "
            f"are trained or dropped, but its steps have trained {expected} and {saved.groups_dropped} were dropped. "
            "Resume from an earlier one: rename its folder."
        )
    return found


def complete(saved: SavedState, rows: Iterable[LedgerRow]) -> SavedState:
    """Add the untrained groups to a checkpoint of an earlier version of rlx, by the ledger.

    Groups that were dropped since then stay dropped, and count as failed. Raises RunError if the ledger has not the
    groups that the checkpoint has trained.
    """
    expected = saved.version * saved.groups_per_step
    below = [row for row in rows if row.group_id < saved.next_group_id]
    trained = {row.group_id for row in below if row.state == "trained" and (row.step or 0) < saved.version}
    if len(trained) != expected:
        raise RunError(
            f"the ledger is not that of the checkpoint of step {saved.version}: it has {len(trained)} groups of its "
            f"steps, which have trained {expected}. An earlier version of rlx wrote the checkpoint, which can't be "
            "resumed without its ledger. Put back the ledger's files, or start a new run from its weights: rlx export."
        )
    dropped = {row.group_id for row in below if row.state == "dropped"}
    untrained = sorted(set(range(saved.next_group_id)) - trained - dropped)
    since = len(dropped) - saved.groups_dropped
    return structs.replace(saved, untrained=untrained, dropped=saved.dropped + since)


def plan_resume(
    rows: Sequence[LedgerRow],
    saved: SavedState,
    *,
    max_staleness: int,
    steps: int,
    row_of: Callable[[int], int] | None = None,
) -> ResumePlan:
    """Return what to do with each group (pure logic).

    rows: the ledger as the last attempt left it. steps: of the whole run. row_of: id -> row of the dataset.
    """
    version, frontier = saved.version, saved.next_group_id
    untrained = open_groups(saved)
    usable = [
        row
        for row in rows
        if max_staleness > 0
        and (row.group_id in untrained or row.group_id >= frontier)
        and row.state in {"finished", "trained"}
        and row.stored
        and row.newest_version is not None
        and row.lease_version <= row.newest_version <= version
        and (row_of is None or row.row == row_of(row.group_id))
    ]
    # Earliest due first: a group fits if its step and those before it have room for all groups due by then.
    usable.sort(key=lambda row: (row.lease_version, row.group_id))
    reuse: list[LedgerRow] = []
    for row in usable:
        due = row.lease_version + max_staleness
        if len(reuse) < (due - version + 1) * saved.groups_per_step:
            reuse.append(row)
    # Groups are trained in the order of ids as far as possible: one that was reached only because another was dropped,
    # which is undone, is beyond the end of the run.
    needed = (steps - version) * saved.groups_per_step
    last = max([frontier, *(row.group_id + 1 for row in reuse)])
    ids = [*sorted(untrained), *range(frontier, last)]
    next_id = last if len(ids) <= needed else max(frontier, ids[needed])
    used = [row for row in reuse if row.group_id < next_id]
    resample = {group_id for group_id in ids if group_id < next_id} - {row.group_id for row in used}
    closed_by_ledger = {
        row.group_id
        for row in rows
        if row.state == "dropped" or (row.state == "trained" and (row.step is None or row.step < version))
    }
    restore = sorted(set(range(frontier)) - untrained - closed_by_ledger)
    return ResumePlan(used, sorted(resample), next_id, restore, len(usable) - len(reuse))


def reconcile(
    ledger: Ledger,
    window: Window,
    saved: SavedState,
    *,
    row_of: Callable[[int], int],
    say: Callable[[str], None] = lambda _: None,
) -> dict[int, GroupDone]:
    """Rewind the ledger to the checkpoint, restore the window, and return the finished groups to use.

    row_of: id of a group -> its row of the dataset. say: reports what had to be repaired.

    Raises RunError if the counts of the checkpoint do not agree.
    """
    if ledger.repaired:
        say(ledger.repaired)
    ledger.flush()
    k = window.max_staleness
    plan = plan_resume(ledger.rows(), saved, max_staleness=k, steps=window.last_step, row_of=row_of)
    if plan.restore:
        say(f"the ledger lacked {len(plan.restore)} groups of the checkpoint: they are restored from it")
    if plan.too_old:
        say(f"{plan.too_old} finished groups are sampled again: with async.max_staleness = {k} they are too old")
    stored = {row.group_id: ledger.stored(row.group_id) for row in plan.reuse}
    finished = {group_id: message for group_id, message in stored.items() if message is not None}
    if lost := stored.keys() - finished.keys():
        say(f"the episodes of {len(lost)} finished groups cannot be read: they are sampled again")
    resample = sorted({*plan.resample, *lost})
    ledger.rewind(
        saved.version,
        next_id=plan.next_id,
        finished=finished,
        leased={group_id: row_of(group_id) for group_id in resample},
        closed={group_id: row_of(group_id) for group_id in plan.restore},
    )
    ledger.flush()
    window.next_id = plan.next_id
    reuse = [row for row in plan.reuse if row.group_id in finished]
    window.restore((PendingGroup(row.group_id, row.lease_version, row.newest_version) for row in reuse), resample)
    return finished
