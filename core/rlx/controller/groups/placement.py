"""Assigns leases to replicas, and keeps track of the leases that each replica holds.

Rules:

* Behind a barrier (in a synchronous run) the id of a group determines its replica, and the leases that a replica gets
  at once are one batch: tokens repeat bit for bit only if the same leases enter the same engine in the same order.
* Otherwise the replica with the fewest groups out takes the next lease.
* The leases of a replica that died pass to others. Behind a barrier they wait for its return: it then samples its
  whole batch again, and groups that had arrived before are not counted twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlx.controller.groups.least_loaded import LeastLoaded
from rlx.controller.runtime.services import Services
from rlx.errors import PeerFailed
from rlx.transport.messages import Lease, Leases

UNPLACED = ""
"""Holder of leases that no replica can take yet."""


class Placement:
    """The leases of one kind, by replica. `kind` completes "rollout-0 sent <kind> 3"."""

    def __init__(self, services: Services, load: LeastLoaded, *, barrier: bool, kind: str) -> None:
        self._services = services
        self._load = load
        self._kind = kind
        self._held: dict[int, tuple[str, Lease]] = {}
        self._batches: dict[str, Leases] = {}
        self._repeated: set[int] = set()
        self._away: set[str] = set()
        self.barrier = barrier

    @property
    def out(self) -> int:
        """Number of leases that are not released yet."""
        return len(self._held)

    async def hand_out(self, leases: Sequence[Lease], seed: int) -> None:
        """Assign `leases` to replicas and send them. Behind a barrier the engines are reseeded with `seed`."""
        replicas = self._services.replicas
        batches: dict[str, list[Lease]] = {}
        for lease in leases:
            name = replicas[lease.group_id % len(replicas)] if self.barrier else self._load.take() or UNPLACED
            self._held[lease.group_id] = (name, lease)
            batches.setdefault(name, []).append(lease)
        for name, batch in batches.items():
            message = Leases(batch, barrier=self.barrier, seed=seed)
            if self.barrier:
                self._batches[name] = message
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
        del self._held[group_id]
        if not self.barrier:
            self._load.give_back(replica)
        return True

    async def remove_replica(self, replica: str) -> None:
        """Pass the leases of a replica that died to others. It must have been removed from `load` before."""
        self._away.add(replica)
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
        elif self._leases_of(replica):
            batch = self._batches[replica]
            self._repeated = {lease.group_id for lease in batch.leases} - self._held.keys()
            await self._send(replica, batch)

    async def _send(self, replica: str, message: Leases) -> None:
        try:
            await self._services.channel.notify(replica, message)
        except PeerFailed as error:
            # The loss of the replica is detected a moment later; `remove_replica` then passes these leases on.
            self._services.log("warning", f"leases cannot be sent to {replica}: {error}")

    def _leases_of(self, name: str) -> list[Lease]:
        return [lease for holder, lease in self._held.values() if holder == name]


class Placements:
    """All placements of a run, and the replica load that they share."""

    def __init__(self, load: LeastLoaded, placements: Sequence[Placement]) -> None:
        self._load = load
        self._placements = placements
        self._away: set[str] = set()

    async def remove_replica(self, name: str) -> None:
        """Lease nothing to a replica that died, until `add_replica`."""
        if name not in self._away:
            self._away.add(name)
            self._load.remove(name)
            for placement in self._placements:
                await placement.remove_replica(name)

    def begin_without(self, name: str) -> None:
        """Lease nothing to a replica until `add_replica`; nothing has been leased yet."""
        self._away.add(name)
        self._load.remove(name)
        for placement in self._placements:
            placement.begin_without(name)

    async def add_replica(self, name: str) -> None:
        """Lease groups to a replica again: it has returned and holds the current weights."""
        self._away.discard(name)
        self._load.add(name)
        for placement in self._placements:
            await placement.add_replica(name)
