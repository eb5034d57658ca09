"""Decides how far sampling may run ahead of training, and which groups a step trains (pure logic).

Let `k = async.max_staleness`, `G = policy.groups_per_step`, and `v` the newest weight version that is verified in all
engines.

Rules:

* Admission: groups ever leased, minus those dropped, stay at or below `min(v + k + 1, steps) * G`.
* A group leased at version w is due at step w + k. Step `s` trains exactly G groups: finished ones in the order
  (lease version, id), that is, earliest due first.
* Step `s` waits for older groups that are still out if continuing without them would leave more groups due by some
  step t than the steps up to t train: after step s, at most `(t - s) * G` groups due by t may be left.
* A group that finished while version n was being sent to the engines may hold tokens of n. It is ready for training
  only once n is verified, so nothing is learnt from tokens that were sampled with unverified weights.

So every group is trained at its due step at the latest, and none is ever discarded for its age. The invariant is that
at most `(t - s + 1) * G` groups are due by t when step s begins: admission establishes it, and the wait preserves it
from step to step. Waiting only for groups that are due at s itself would be too late: slow groups of an early version
could pile up behind quick ones of later versions, until one step has more than G of them due.

`pick` is asked after each group that finishes, and looks at counts by lease version, of which there are about k + 1.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class PendingGroup:
    """A group that is leased or finished, and not yet trained."""

    group_id: int
    lease_version: int
    """The verified version when it was leased; its tokens have this version or a newer one."""
    newest_version: int | None = None
    """The newest version that its tokens may have; None while it is leased."""


class Window:
    """The groups between lease and training."""

    def __init__(
        self, *, max_staleness: int, groups_per_step: int, steps: int, trained: int = 0, next_id: int = 0
    ) -> None:
        self.max_staleness = max_staleness
        self.groups_per_step = groups_per_step
        self.last_step = steps
        """Number of steps to lease groups for: at most `last_step * groups_per_step` groups are leased in all."""
        self.next_id = next_id
        self._trained = trained
        self._pending: dict[int, PendingGroup] = {}
        self._resample: list[int] = []
        self._finished = 0
        self._count: Counter[int] = Counter()
        """Lease version -> groups that are leased or finished."""
        self._unverified: list[tuple[int, int]] = []
        """A heap of (newest version, id) of finished groups that were not ready at the last `pick`."""
        self._ready: defaultdict[int, list[int]] = defaultdict(list)
        """Lease version -> sorted ids of the groups that are ready for training."""

    @property
    def out(self) -> int:
        """Number of groups that are leased and not finished."""
        return len(self._pending) - self._finished

    def room(self, version: int) -> int:
        """Return how many groups may be leased now, with `version` verified in the engines."""
        limit = min(version + self.max_staleness + 1, self.last_step) * self.groups_per_step
        return max(0, limit - self._trained - len(self._pending))

    @property
    def untrained(self) -> list[int]:
        """Ids below `next_id` that are neither trained nor dropped, sorted."""
        return sorted({*self._pending, *self._resample})

    def lease(self, version: int) -> int:
        """Lease a group and return its id: one to be sampled again after a resume, or else a new one."""
        if self.room(version) < 1:
            raise AssertionError(f"no room for a lease at version {version}")
        if self._resample:
            group_id = self._resample.pop(0)
        else:
            group_id, self.next_id = self.next_id, self.next_id + 1
        self._pending[group_id] = PendingGroup(group_id, version)
        self._count[version] += 1
        return group_id

    def restore(self, pending: Iterable[PendingGroup], resample: Iterable[int]) -> None:
        """Set the finished groups that a resume uses, and the ids that it samples again."""
        self._pending = {group.group_id: group for group in pending}
        self._finished = len(self._pending)
        self._count = Counter(group.lease_version for group in self._pending.values())
        self._ready.clear()
        finished = self._pending.values()
        self._unverified = [(group.newest_version or 0, group.group_id) for group in finished]
        heapq.heapify(self._unverified)
        self._resample = sorted(resample)

    def finish(self, group_id: int, newest: int) -> None:
        """Record that a leased group has finished. `newest`: the newest version that its tokens may have."""
        group = self._pending[group_id]
        if group.newest_version is not None:
            raise AssertionError(f"group {group_id} finished twice")
        group.newest_version = newest
        self._finished += 1
        heapq.heappush(self._unverified, (newest, group_id))

    def drop(self, group_id: int) -> None:
        """Drop a leased group, making room for another."""
        group = self._pending.get(group_id)
        if group is None or group.newest_version is not None:
            raise AssertionError(f"group {group_id} is not leased")
        del self._pending[group_id]
        self._count[group.lease_version] -= 1

    def pick(self, step: int, verified: int) -> list[int] | None:
        """Return the sorted ids of the groups that `step` trains, or None if it has to wait for more groups.

        `verified` never decreases from call to call.
        """
        self._admit(verified)
        missing, chosen = self.groups_per_step, Counter[int]()
        for version in sorted(self._ready):
            chosen[version] = min(missing, len(self._ready[version]))
            missing -= chosen[version]
        if missing or not self._leaves_trainable(chosen, step):
            return None
        return sorted(group_id for version, count in chosen.items() for group_id in self._ready[version][:count])

    def train(self, group_ids: Iterable[int]) -> None:
        """Record that finished groups have been trained."""
        trained = set(group_ids)
        versions = set()
        for group_id in trained:
            group = self._pending.pop(group_id)
            if group.newest_version is None:
                raise AssertionError(f"group {group_id} was trained before it finished")
            versions.add(group.lease_version)
            self._count[group.lease_version] -= 1
            self._finished -= 1
            self._trained += 1
        for version in versions:
            left = [group_id for group_id in self._ready.pop(version, []) if group_id not in trained]
            if left:
                self._ready[version] = left
        self._count = +self._count  # without the versions that have no group left

    def _admit(self, verified: int) -> None:
        """Add the groups to `_ready` whose tokens are of verified weights."""
        while self._unverified and self._unverified[0][0] <= verified:
            _, group_id = heapq.heappop(self._unverified)
            if (group := self._pending.get(group_id)) is not None:
                insort(self._ready[group.lease_version], group_id)

    def _leaves_trainable(self, chosen: Counter[int], step: int) -> bool:
        """Whether all groups that are left after `step` has trained the `chosen` number of each version can be trained
        by their due steps.
        """
        due = 0
        for version in sorted(self._count):
            due += self._count[version] - chosen[version]
            if due > (version + self.max_staleness - step) * self.groups_per_step:
                return False
        return True
