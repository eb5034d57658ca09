"""Training groups from lease to training: the window admits them, the ledger records them, and their messages are kept
here until they are trained.
"""

from __future__ import annotations

import asyncio

from rlx.controller.groups.dropped_groups import Drops
from rlx.controller.groups.ledger import Ledger
from rlx.controller.groups.placement import Placement
from rlx.controller.groups.staleness import Window
from rlx.controller.records.bad_rows import BadRows, most_in_row
from rlx.controller.records.metrics import is_informative
from rlx.controller.runtime.services import Services
from rlx.datasets.order import RowOrder, derive_seed
from rlx.errors import owned
from rlx.transport.messages import GroupDone, GroupFailed, Lease


class Groups:
    """All training groups that are leased or finished and not yet trained."""

    def __init__(
        self,
        services: Services,
        *,
        window: Window,
        order: RowOrder,
        ledger: Ledger,
        placement: Placement,
        version: int,
    ) -> None:
        self._services = services
        self._window = window
        self._order = order
        self._ledger = ledger
        self._done: dict[int, GroupDone] = {}
        self._changed = asyncio.Event()
        self._drop_uninformative = services.config.algorithm.drop_uninformative
        self._round = 0
        self.placement = placement
        self.verified = version
        """Newest version that is verified in all engines."""
        self.in_flight = version
        """Newest version that may be in any engine, verified or not."""
        self.drops = Drops(window.groups_per_step)
        most = most_in_row(window.groups_per_step, order.epoch_rows)
        self.bad_rows = BadRows("dataset", services.log, most)
        self.generated_tokens = 0

    @property
    def out(self) -> int:
        """Number of leased groups that are not finished."""
        return self._window.out

    @property
    def next_id(self) -> int:
        """The first id that was never leased."""
        return self._window.next_id

    @property
    def untrained(self) -> list[int]:
        """Ids of leased and finished groups, and of those that a resume has yet to sample again."""
        return self._window.untrained

    @property
    def barrier(self) -> bool:
        """Whether a step's groups are leased together, in a fixed order: a synchronous run repeats bit for bit."""
        return self._window.max_staleness == 0

    def stop_after(self, steps: int) -> None:
        """Lease no more groups than the first `steps` steps train."""
        self._window.last_step = min(self._window.last_step, steps)

    def restore(self, finished: dict[int, GroupDone]) -> None:
        """Add groups that were finished before a resume. `resume.reconcile` has already added them to the window."""
        self._done.update(finished)

    async def version_verified(self, version: int) -> None:
        """Record that `version` is verified in all engines.

        More groups may now be leased, and groups sampled with it may be trained.
        """
        self.verified = version
        if not self.barrier:
            await self.hand_out()
        self._changed.set()

    async def collect(self, step: int) -> list[GroupDone]:
        """Wait for the groups that `step` trains, leasing more if needed, and return them in the order of ids."""
        self._round = 0
        with self._services.progress.waiting(f"policy waits for groups of step {step}"):
            while (ids := self._window.pick(step, self.verified)) is None:
                await self.hand_out()
                await self._changed.wait()
                self._changed.clear()
        return [self._done[group_id] for group_id in ids]

    async def hand_out(self) -> None:
        """Lease as many groups as the window has room for."""
        room = self._window.room(self.verified)
        if not room or (self.barrier and self._window.out):
            return
        config = self._services.config
        seed = derive_seed(config.run.seed, "step", self.verified, self._round)
        self._round += 1
        leases = []
        for _ in range(room):
            group_id = self._window.lease(self.verified)
            row = self._order.row(group_id)
            self._ledger.lease(group_id, row, self.verified)
            group_seed = derive_seed(config.run.seed, "group", group_id)
            leases.append(Lease(group_id, row, config.algorithm.group_size, self.verified, group_seed))
        await self.placement.hand_out(leases, seed)

    async def finished(self, replica: str, message: GroupDone) -> None:
        """Add a finished group from a replica, or drop it if it is uninformative and `drop_uninformative` is set."""
        if not self.placement.release(replica, message.group_id):
            return
        self.generated_tokens += message.tokens
        self.bad_rows.good()
        if self._drop_uninformative and not is_informative(message):
            await self._drop(message.group_id, self.drops.drop_uninformative(message.filters or message.rewards))
            return
        self.drops.kept()
        self._done[message.group_id] = message
        self._window.finish(message.group_id, self.in_flight)
        # A resumed synchronous run samples all groups of its step together, so it uses none that is stored.
        self._ledger.finish(message, self.in_flight, store=not self.barrier)
        self._moved()

    async def failed(self, replica: str, message: GroupFailed) -> None:
        """Drop a group that failed on a replica, and count it."""
        if not self.placement.release(replica, message.group_id):
            return
        cause = owned(message.error, message.owner)
        if message.bad_row is not None:
            self.bad_rows.drop(self._order.row(message.group_id), message.bad_row, cause)
        else:
            self._services.log("warning", f"group {message.group_id} dropped: {cause}")
            self.bad_rows.good()
            self.drops.drop_failed(cause)
        await self._drop(message.group_id, message.error)

    def trained(self, step: int, groups: list[GroupDone], *, keep_payloads: bool) -> None:
        """Record that `step` has trained `groups`, and discard them. `keep_payloads`: see `Ledger.train`."""
        ids = [group.group_id for group in groups]
        self._window.train(ids)
        self._ledger.train(ids, step, keep_payloads=keep_payloads)
        for group_id in ids:
            del self._done[group_id]

    async def _drop(self, group_id: int, why: str) -> None:
        """Drop a group and lease another one. A synchronous run leases it once all others have finished."""
        self._window.drop(group_id)
        self._ledger.drop(group_id, why)
        self._moved()
        if not self.barrier:
            await self.hand_out()

    def _moved(self) -> None:
        self._services.progress.moved()
        self._changed.set()
