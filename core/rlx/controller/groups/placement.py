"""Assigns leases to replicas, and keeps track of the leases that each replica holds.

Rules:

* Behind a barrier (in a synchronous run) the id of a group determines its replica, and the leases that a replica gets
  at once are one batch: tokens repeat bit for bit only if the same leases enter the same engine in the same order.
* Otherwise the replica with the fewest groups out takes the next lease.
* The leases of a replica that died pass to others. Behind a barrier they wait for its return: it then samples its
  whole batch again, and groups that had arrived before are not counted twice.
* A replica reports which groups it holds. Those that it should hold and does not, in several reports in a row, are
  leased again: their lease or their result was lost. Behind a barrier, the replica samples its whole batch again once
  it holds nothing of it. A group that arrives twice after all is taken once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from rlx.controller.groups.least_loaded import LeastLoaded
from rlx.controller.runtime.services import Services
from rlx.datasets.order import derive_seed
from rlx.errors import PeerFailed, abbreviate
from rlx.transport.messages import Lease, Leases

UNPLACED = ""
"""Holder of leases that no replica can take yet."""
LOST_REPORTS = 3
LOST_SECONDS = 2.0
"""A group counts as lost if it is missing in this number of reports of a replica in a row, over at least this time: a
lease may cross a report on its way.
"""


@dataclass
class Missing:
    """Reports in a row in which a group was missing, and the time of the first of them."""

    since: float
    reports: int = 0


class Placement:
    """The leases of one kind, by replica. `kind` completes "rollout-0 sent <kind> 3"."""

    def __init__(
        self,
        services: Services,
        load: LeastLoaded,
        *,
        barrier: bool,
        kind: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._services = services
        self._clock = clock
        self._load = load
        self._kind = kind
        self._held: dict[int, tuple[str, Lease]] = {}
        self._by_holder: dict[str, dict[int, Lease]] = {}
        self._missing: dict[str, dict[int, Missing]] = {}
        """Replica -> groups that it should hold and did not hold in its last report."""
        self._batches: dict[str, Leases] = {}
        self._repeated: set[int] = set()
        self._away: set[str] = set()
        self.barrier = barrier

    @property
    def out(self) -> int:
        """Number of leases that are not released yet."""
        return len(self._held)

    async def hand_out(self, leases: Sequence[Lease], seed: int) -> None:
        """Assign `leases` to replicas and send them. Behind a barrier each engine is reseeded, from `seed`."""
        replicas = self._services.replicas
        batches: dict[str, list[Lease]] = {}
        for lease in leases:
            name = replicas[lease.group_id % len(replicas)] if self.barrier else self._load.take() or UNPLACED
            self._hold(name, lease)
            batches.setdefault(name, []).append(lease)
        for name, batch in batches.items():
            message = Leases(batch)
            if self.barrier:
                # Without the name, row i of every replica would draw the same noise in each decoding step.
                message = self._batches[name] = Leases(batch, barrier=True, seed=derive_seed(seed, name))
            if name != UNPLACED and name not in self._away:
                await self._send(name, message)

    def release(self, replica: str, group_id: int) -> bool:
        """End the lease of a finished or failed group. Returns False if the replica does not hold it."""
        name, _ = self._held.get(group_id, (UNPLACED, None))
        if name != replica:
            if group_id not in self._repeated:
                self._services.log(
                    "warning", f"{replica} sent {self._kind} {group_id}, which it does not hold; ignored"
                )
            return False
        self._take_from_holder(group_id)
        if not self.barrier:
            self._load.give_back(replica)
        return True

    async def report(self, replica: str, held: Collection[int]) -> None:
        """Compare the groups that a replica holds with those that it should hold, and lease again what it has lost."""
        now, before = self._clock(), self._missing.pop(replica, {})
        expected = self._by_holder.get(replica, {}).keys()
        if replica in self._away or not (gone := expected - set(held)):
            return
        missing = self._missing[replica] = {group_id: before.get(group_id, Missing(now)) for group_id in gone}
        lost = []
        for group_id, found in missing.items():
            found.reports += 1
            if found.reports >= LOST_REPORTS and now - found.since >= LOST_SECONDS:
                lost.append(group_id)
        # A batch behind a barrier needs an idle engine: the replica finishes what it has of it first.
        if lost and (not self.barrier or len(lost) == len(expected)):
            del self._missing[replica]
            await self._lease_again(replica, sorted(lost))

    async def _lease_again(self, replica: str, lost: list[int]) -> None:
        names = f"{self._kind}{'s' if len(lost) > 1 else ''} {abbreviate(list(map(str, lost)))}"
        self._services.log(
            "warning", f"{replica} does not hold {names}: the lease or the result was lost on its way; leased again"
        )
        if self.barrier:
            await self._send_batch_again(replica)
            return
        leases = [self._take_from_holder(group_id) for group_id in lost]
        for _ in leases:
            self._load.give_back(replica)
        await self.hand_out(leases, 0)

    async def remove_replica(self, replica: str) -> None:
        """Pass the leases of a replica that died to others. It must have been removed from `load` before."""
        self._away.add(replica)
        self._missing.pop(replica, None)
        if not self.barrier:
            await self.hand_out(self._leases_of(replica), 0)

    def begin_without(self, replica: str) -> None:
        """Send nothing to a replica until `add_replica`; nothing has been leased yet."""
        self._away.add(replica)

    async def add_replica(self, replica: str) -> None:
        """Give leases to a replica that has returned and holds the current weights."""
        self._away.discard(replica)
        if not self.barrier:
            await self.hand_out(self._leases_of(UNPLACED), 0)
        elif self._by_holder.get(replica):
            await self._send_batch_again(replica)

    async def _send_batch_again(self, replica: str) -> None:
        batch = self._batches[replica]
        self._repeated |= {lease.group_id for lease in batch.leases} - self._held.keys()
        await self._send(replica, batch)

    def _hold(self, name: str, lease: Lease) -> None:
        if lease.group_id in self._held:
            self._take_from_holder(lease.group_id)
        self._held[lease.group_id] = (name, lease)
        self._by_holder.setdefault(name, {})[lease.group_id] = lease

    def _take_from_holder(self, group_id: int) -> Lease:
        name, lease = self._held.pop(group_id)
        del self._by_holder[name][group_id]
        return lease

    async def _send(self, replica: str, message: Leases) -> None:
        try:
            await self._services.channel.notify(replica, message)
        except PeerFailed as error:
            # The loss of the replica is detected a moment later; `remove_replica` then passes these leases on.
            self._services.log("warning", f"leases cannot be sent to {replica}: {error}")

    def _leases_of(self, name: str) -> list[Lease]:
        return list(self._by_holder.get(name, {}).values())


class Placements:
    """All placements of a run, and the replica load that they share."""

    def __init__(self, load: LeastLoaded, placements: Mapping[str, Placement]) -> None:
        """`placements`: by the kind of their leases."""
        self._load = load
        self._placements = placements
        self._away: set[str] = set()

    async def remove_replica(self, name: str) -> None:
        """Lease nothing to a replica that died, until `add_replica`."""
        if name not in self._away:
            self._away.add(name)
            self._load.remove(name)
            for placement in self._placements.values():
                await placement.remove_replica(name)

    def begin_without(self, name: str) -> None:
        """Lease nothing to a replica until `add_replica`; nothing has been leased yet."""
        self._away.add(name)
        self._load.remove(name)
        for placement in self._placements.values():
            placement.begin_without(name)

    async def add_replica(self, name: str) -> None:
        """Lease groups to a replica again: it has returned and holds the current weights."""
        self._away.discard(name)
        self._load.add(name)
        for placement in self._placements.values():
            await placement.add_replica(name)

    async def report(self, name: str, held: Mapping[str, Collection[int]] | None) -> None:
        """Lease again what a replica has lost. `held`: the groups that it holds, by kind; None if it doesn't say."""
        if held is not None and name not in self._away:
            for kind, placement in self._placements.items():
                await placement.report(name, held.get(kind, ()))
