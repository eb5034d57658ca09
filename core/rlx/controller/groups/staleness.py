"""How far sampling may run ahead of training, and which groups a step consumes. Pure logic.

With `k = async.max_staleness`, `G = policy.groups_per_step`, and `v` the newest weight version that is proven to be
in all engines:

* Admission: groups ever leased, less those dropped, stay at or below `min(v + k + 1, steps) * G`.
* A group leased at version w is due at step w + k. Step `s` consumes exactly G groups: finished ones in the order
  (lease version, id), that is, earliest due first.
* Step `s` waits for older groups that are still out where going on without them would leave more groups due by some
  step t than the steps up to t take: after step s, at most `(t - s) * G` groups due by t may be left.

So every group is trained at its due step at the latest, and none is ever thrown away for its age. Admission starts
the induction (when step s begins, at most `(t - s + 1) * G` groups are due by t), and the wait carries it from step
to step. To wait only for what is due at s itself would be too late: slow groups of an early version could pile up
behind quick ones of later versions, until one step is due more than G of them.

A group that finished while version n was on its way into the engines may hold tokens of n. It is ready for training
only once n is verified: nothing sampled with weights that are not proven is learnt from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class Slot:
    """One group that is leased or finished, and not yet trained."""

    group_id: int
    version: int
    """Verified version when it was leased: none of its tokens is older."""
    newest: int | None = None
    """Newest version that its tokens may have; None while it is leased."""

    @property
    def order(self) -> tuple[int, int]:
        return (self.version, self.group_id)


class Window:
    """The groups between lease and training."""

    def __init__(
        self, *, max_staleness: int, groups_per_step: int, steps: int, trained: int = 0, next_id: int = 0
    ) -> None:
        self.max_staleness = max_staleness
        self.groups_per_step = groups_per_step
        self.last_step = steps
        """No lease is made that only a step from here on could train."""
        self.next_id = next_id
        self._trained = trained
        self._slots: dict[int, Slot] = {}
        self._again: list[int] = []
        self._finished = 0

    @property
    def out(self) -> int:
        return len(self._slots) - self._finished

    @property
    def finished(self) -> int:
        return self._finished

    def room(self, version: int) -> int:
        """How many leases may go out now that `version` is in the engines and verified."""
        limit = min(version + self.max_staleness + 1, self.last_step) * self.groups_per_step
        return max(0, limit - self._trained - len(self._slots))

    def lease(self, version: int) -> int:
        """Takes the next id: one to be sampled again after a resume, else a new one."""
        if self.room(version) < 1:
            raise AssertionError(f"no room for a lease at version {version}")
        group_id = self._again.pop(0) if self._again else self._take_id()
        self._slots[group_id] = Slot(group_id, version)
        return group_id

    def restore(self, slots: Iterable[Slot], again: Iterable[int]) -> None:
        """After a resume: finished groups that are still good, and ids that are to be sampled again."""
        self._slots = {slot.group_id: slot for slot in slots}
        self._finished = len(self._slots)
        self._again = sorted(again)

    def leased(self, group_id: int) -> bool:
        slot = self._slots.get(group_id)
        return slot is not None and slot.newest is None

    def version_of(self, group_id: int) -> int:
        return self._slots[group_id].version

    def finish(self, group_id: int, newest: int) -> None:
        slot = self._slots[group_id]
        if slot.newest is not None:
            raise AssertionError(f"group {group_id} finished twice")
        slot.newest = newest
        self._finished += 1

    def drop(self, group_id: int) -> None:
        """The group cannot be had; its place becomes free."""
        if not self.leased(group_id):
            raise AssertionError(f"group {group_id} is not leased")
        del self._slots[group_id]

    def pick(self, step: int, verified: int) -> list[int] | None:
        """Ids of the step's groups, in the order of ids; None while it has to wait."""
        if self._finished < self.groups_per_step:
            return None
        ready = [slot for slot in self._slots.values() if slot.newest is not None and slot.newest <= verified]
        if len(ready) < self.groups_per_step:
            return None
        ready.sort(key=lambda slot: slot.order)
        chosen = ready[: self.groups_per_step]
        return sorted(slot.group_id for slot in chosen) if self._leaves_room(chosen, step) else None

    def train(self, group_ids: Iterable[int]) -> None:
        for group_id in group_ids:
            slot = self._slots.pop(group_id)
            if slot.newest is None:
                raise AssertionError(f"group {group_id} was trained before it finished")
            self._finished -= 1
            self._trained += 1

    def _leaves_room(self, chosen: list[Slot], step: int) -> bool:
        """Whether what is left after `step` trained `chosen` can all be trained in time."""
        left = Counter(slot.version + self.max_staleness for slot in self._slots.values())
        left.subtract(slot.version + self.max_staleness for slot in chosen)
        due = 0
        for last in sorted(left):
            due += left[last]
            if due > (last - step) * self.groups_per_step:
                return False
        return True

    def _take_id(self) -> int:
        self.next_id += 1
        return self.next_id - 1
