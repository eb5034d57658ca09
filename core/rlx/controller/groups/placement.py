"""Which replica has which lease.

The rules of this part:

* Behind a barrier (a synchronous run) a lease's place follows from its id, and what one replica gets at once is a
  batch: tokens repeat bit for bit only if the same leases enter the same engine in the same order.
* Otherwise the replica with the fewest groups out takes the next lease.
* A replica that is lost holds nothing: its leases pass to others. Behind a barrier they stay, and when it is back it
  samples its whole batch again; what had arrived of that before is not taken twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlx.controller.context import Context
from rlx.controller.groups.least_loaded import LeastLoaded
from rlx.errors import PeerFailed
from rlx.transport.messages import Lease, Leases

NOBODY = ""


class Placement:
    """The leases of one kind that are out. `kind` reads as in "rollout-0 sent <kind> 3"."""

    def __init__(self, context: Context, load: LeastLoaded, *, barrier: bool, kind: str) -> None:
        self._context = context
        self._load = load
        self._kind = kind
        self._held: dict[int, tuple[str, Lease]] = {}
        self._batches: dict[str, Leases] = {}
        self._again: set[int] = set()
        self._lost: set[str] = set()
        self.barrier = barrier

    @property
    def out(self) -> int:
        return len(self._held)

    async def hand_out(self, leases: Sequence[Lease], seed: int) -> None:
        """`seed`: of the engines, behind a barrier."""
        batches: dict[str, list[Lease]] = {}
        for lease in leases:
            name = self._choose(lease)
            self._held[lease.group_id] = (name, lease)
            batches.setdefault(name, []).append(lease)
        for name, batch in batches.items():
            message = Leases(batch, barrier=self.barrier, seed=seed)
            if self.barrier:
                self._batches[name] = message
            if name != NOBODY and name not in self._lost:
                await self._tell(name, message)

    def settle(self, replica: str, group_id: int) -> bool:
        """Takes the lease back. False for one that the replica does not hold."""
        name, _ = self._held.get(group_id, (NOBODY, None))
        if name != replica:
            if group_id not in self._again:
                self._context.log("warning", f"{replica} sent {self._kind} {group_id}, which it does not hold; ignored")
            return False
        del self._held[group_id]
        if not self.barrier:
            self._load.give_back(replica)
        return True

    async def lose(self, replica: str) -> None:
        """The replica is gone, from `load` too."""
        self._lost.add(replica)
        if not self.barrier:
            await self.hand_out(self._leases_of(replica), 0)

    async def regain(self, replica: str) -> None:
        """It is back, with current weights."""
        self._lost.discard(replica)
        if not self.barrier:
            await self.hand_out(self._leases_of(NOBODY), 0)
        elif self._leases_of(replica):
            batch = self._batches[replica]
            self._again = {lease.group_id for lease in batch.leases} - self._held.keys()
            await self._tell(replica, batch)

    async def _tell(self, replica: str, message: Leases) -> None:
        """One that is gone is missed a moment later, by its exit or its silence: then it is lost, with these leases."""
        try:
            await self._context.channel.notify(replica, message)
        except PeerFailed as error:
            self._context.log("warning", f"{replica} cannot be told of its leases: {error}")

    def _choose(self, lease: Lease) -> str:
        if self.barrier:
            return self._context.replicas[lease.group_id % len(self._context.replicas)]
        return self._load.take() or NOBODY

    def _leases_of(self, name: str) -> list[Lease]:
        return [lease for holder, lease in self._held.values() if holder == name]
