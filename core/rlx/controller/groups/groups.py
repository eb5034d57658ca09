"""Train groups from lease to training: the window's rules, the ledger's record, and the figures and payloads in
between.
"""

from __future__ import annotations

import asyncio

from rlx.controller.context import Context
from rlx.controller.groups.dropped_groups import Drops
from rlx.controller.groups.ledger import Ledger
from rlx.controller.groups.placement import Placement
from rlx.controller.groups.staleness import Window
from rlx.controller.records.metrics import is_informative
from rlx.datasets.order import Cursor, derive
from rlx.errors import owned
from rlx.transport.messages import GroupDone, GroupFailed, Lease


class Groups:
    """All train groups that are not trained yet.

    `verified`: newest version proven to be in all engines. `in_flight`: newest version that may be in any engine.
    """

    def __init__(
        self,
        context: Context,
        *,
        window: Window,
        cursor: Cursor,
        ledger: Ledger,
        placement: Placement,
        version: int,
    ) -> None:
        self._context = context
        self._window = window
        self._cursor = cursor
        self._ledger = ledger
        self._done: dict[int, GroupDone] = {}
        self._changed = asyncio.Event()
        self._drop_uninformative = context.config.algorithm.drop_uninformative
        self._round = 0
        self.placement = placement
        self.verified = version
        self.in_flight = version
        self.drops = Drops(window.groups_per_step)
        self.generated_tokens = 0

    @property
    def out(self) -> int:
        return self._window.out

    @property
    def next_id(self) -> int:
        return self._window.next_id

    @property
    def barrier(self) -> bool:
        """Synchronous runs sample a step's groups in one fixed order, so that they repeat bit for bit."""
        return self._window.max_staleness == 0

    def stop_after(self, steps: int) -> None:
        """No lease for a step from `steps` on."""
        self._window.last_step = min(self._window.last_step, steps)

    def restore(self, finished: dict[int, GroupDone]) -> None:
        """Groups that the ledger had finished before a resume; the window knows them already."""
        self._done.update(finished)

    async def prove(self, version: int) -> None:
        """`version` is verified in all engines: more may be leased, and what was sampled with it may be trained."""
        self.verified = version
        if not self.barrier:
            await self.hand_out()
        self._changed.set()

    async def collect(self, step: int) -> list[GroupDone]:
        """The groups that `step` trains, in the order of their ids; leases what is missing and waits for it."""
        self._round = 0
        with self._context.progress.waiting(f"policy waits for groups of step {step}"):
            while (ids := self._window.pick(step, self.verified)) is None:
                await self.hand_out()
                await self._changed.wait()
                self._changed.clear()
        return [self._done[group_id] for group_id in ids]

    async def hand_out(self) -> None:
        room = self._window.room(self.verified)
        if not room or (self.barrier and self._window.out):
            return
        seed = derive(self._context.config.run.seed, "step", self.verified, self._round)
        self._round += 1
        await self.placement.hand_out([self._lease() for _ in range(room)], seed)

    async def finished(self, replica: str, message: GroupDone) -> None:
        if not self.placement.settle(replica, message.group_id):
            return
        self.generated_tokens += message.tokens
        if self._drop_uninformative and not is_informative(message):
            await self._drop(message.group_id, self.drops.teach_nothing(message.filters or message.rewards))
            return
        self.drops.kept()
        self._done[message.group_id] = message
        self._window.finish(message.group_id, self.in_flight)
        self._ledger.finish(message, self.in_flight)
        self._moved()

    async def failed(self, replica: str, message: GroupFailed) -> None:
        """The group is dropped and counted."""
        if not self.placement.settle(replica, message.group_id):
            return
        cause = owned(message.error, message.owner)
        self._context.log("warning", f"group {message.group_id} dropped: {cause}")
        self.drops.fail(cause)
        await self._drop(message.group_id, message.error)

    def train(self, step: int, groups: list[GroupDone], *, keep_payloads: bool) -> None:
        ids = [group.group_id for group in groups]
        self._window.train(ids)
        self._ledger.train(ids, step, keep_payloads=keep_payloads)
        for group_id in ids:
            del self._done[group_id]

    def lease_version(self, group_id: int) -> int:
        return self._window.version_of(group_id)

    def _lease(self) -> Lease:
        config = self._context.config
        group_id = self._window.lease(self.verified)
        row = self._cursor.row(group_id)
        self._ledger.lease(group_id, row, self.verified)
        seed = derive(config.run.seed, "group", group_id)
        return Lease(group_id, row, config.algorithm.group_size, self.verified, seed)

    async def _drop(self, group_id: int, why: str) -> None:
        """A new group takes its place; in a synchronous run once the others are there."""
        self._window.drop(group_id)
        self._ledger.drop(group_id, why)
        self._moved()
        if not self.barrier:
            await self.hand_out()

    def _moved(self) -> None:
        self._context.progress.moved()
        self._changed.set()
