"""How far sampling may run ahead of training, and which groups a step trains (pure logic).

Let `k = async.max_staleness`, `G = policy.groups_per_step`, and `v` the newest weight version that is verified in all
engines.

Rules:

* Admission: groups ever leased, minus those dropped, stay at or below `min(v + k + 1, steps) * G`.
* A group leased at version w is due at step w + k. Step `s` trains exactly G groups: finished ones in the order
  (lease version, id), that is, earliest due first.
* Step `s` waits for older groups that are still out if continuing without them would leave more groups due by some
  step t than the steps up to t train: after step s, at most `(t - s) * G` groups due by t may be left.
* A group that finished while version n was on its way into the engines may hold tokens of n. It is ready for training
  only once n is verified, so nothing is learnt from tokens that were sampled with unverified weights.

So every group is trained at its due step at the latest, and none is ever thrown away for its age. Admission starts
the induction (when step s begins, at most `(t - s + 1) * G` groups are due by t), and the wait carries it from step
to step. Waiting only for groups that are due at s itself would be too late: slow groups of an early version could pile
up behind quick ones of later versions, until one step has more than G of them due.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class Slot:
    """A group that is leased or finished and not yet trained."""

    group_id: int
    version: int
    """The verified version when it was leased: none of its tokens is older."""
    newest: int | None = None
    """The newest version that its tokens may have; None while it is leased."""

    @property
    def order(self) -> tuple[int, int]:
        """Sort key: earliest due first, then by id."""
        return (self.version, self.group_id)


class Window:
    """The groups between lease and training."""

    def __init__(
        self, *, max_staleness: int, groups_per_step: int, steps: int, trained: int = 0, next_id: int = 0
    ) -> None:
        self.max_staleness = max_staleness
        self.groups_per_step = groups_per_step
        self.last_step = steps
        """No group is leased that only a step from this one on could train."""
        self.next_id = next_id
        self._trained = trained
        self._slots: dict[int, Slot] = {}
        self._resample: list[int] = []
        self._finished = 0

    @property
    def out(self) -> int:
        """Number of groups that are leased and not finished."""
        return len(self._slots) - self._finished

    def room(self, version: int) -> int:
        """Return how many groups may be leased now, with `version` verified in the engines."""
        limit = min(version + self.max_staleness + 1, self.last_step) * self.groups_per_step
        return max(0, limit - self._trained - len(self._slots))

    def lease(self, version: int) -> int:
        """Lease a group and return its id: one to be sampled again after a resume, or else a new one."""
        if self.room(version) < 1:
            raise AssertionError(f"no room for a lease at version {version}")
        if self._resample:
            group_id = self._resample.pop(0)
        else:
            group_id, self.next_id = self.next_id, self.next_id + 1
        self._slots[group_id] = Slot(group_id, version)
        return group_id

    def restore(self, slots: Iterable[Slot], resample: Iterable[int]) -> None:
        """Set the finished groups that a resume uses, and the ids that it samples again."""
        self._slots = {slot.group_id: slot for slot in slots}
        self._finished = len(self._slots)
        self._resample = sorted(resample)

    def is_leased(self, group_id: int) -> bool:
        slot = self._slots.get(group_id)
        return slot is not None and slot.newest is None

    def finish(self, group_id: int, newest: int) -> None:
        """Note that a leased group has finished; `newest`: the newest version that its tokens may have."""
        slot = self._slots[group_id]
        if slot.newest is not None:
            raise AssertionError(f"group {group_id} finished twice")
        slot.newest = newest
        self._finished += 1

    def drop(self, group_id: int) -> None:
        """Drop a leased group, making room for another."""
        if not self.is_leased(group_id):
            raise AssertionError(f"group {group_id} is not leased")
        del self._slots[group_id]

    def pick(self, step: int, verified: int) -> list[int] | None:
        """Return the sorted ids of the groups that `step` trains, or None while it has to wait."""
        if self._finished < self.groups_per_step:
            return None
        ready = [slot for slot in self._slots.values() if slot.newest is not None and slot.newest <= verified]
        if len(ready) < self.groups_per_step:
            return None
        ready.sort(key=lambda slot: slot.order)
        chosen = ready[: self.groups_per_step]
        return sorted(slot.group_id for slot in chosen) if self._leaves_room(chosen, step) else None

    def train(self, group_ids: Iterable[int]) -> None:
        """Note that finished groups have been trained."""
        for group_id in group_ids:
            slot = self._slots.pop(group_id)
            if slot.newest is None:
                raise AssertionError(f"group {group_id} was trained before it finished")
            self._finished -= 1
            self._trained += 1

    def _leaves_room(self, chosen: list[Slot], step: int) -> bool:
        """Whether all groups that are left after `step` has trained `chosen` can be trained in time."""
        left = Counter(slot.version + self.max_staleness for slot in self._slots.values())
        left.subtract(slot.version + self.max_staleness for slot in chosen)
        due = 0
        for last in sorted(left):
            due += left[last]
            if due > (last - step) * self.groups_per_step:
                return False
        return True
