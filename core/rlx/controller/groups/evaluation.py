"""Held-out evaluation: every row of the evaluation dataset, or its first `limit`, sampled and scored with the
current weights.

In a synchronous run it is a phase of its own, leased at once behind a barrier and reseeded, so that it repeats bit
for bit. With staleness allowed it is mixed in with training: a bounded number of its groups is out at any time, and
weights may change under it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

from rlx.controller.context import Context
from rlx.controller.groups.placement import Placement
from rlx.controller.records.metrics import eval_metrics
from rlx.datasets.order import derive
from rlx.errors import RunError
from rlx.transport.messages import GroupDone, GroupFailed, Lease


class Evaluation:
    """One evaluation at a time; ids of its groups are places in the evaluation dataset."""

    def __init__(self, context: Context, *, rows: int, placement: Placement) -> None:
        self._context = context
        self._rows = rows
        self._width = rows if placement.barrier else max(context.config.policy.groups_per_step, len(context.replicas))
        self._todo: deque[Lease] = deque()
        self.placement = placement
        self._groups: list[GroupDone] = []
        self._dropped = 0
        self._last_error = ""
        self._complete = asyncio.Event()

    async def run(self, version: int) -> tuple[dict[str, float], list[GroupDone]]:
        """Metrics, and the groups by row. Raises RunError where every group was dropped."""
        started = time.monotonic()
        self._begin(version)
        with self._context.progress.waiting(f"evaluation of version {version} waits for its {self._rows} groups"):
            await self._hand_out()
            await self._complete.wait()
        if not self._groups:
            raise RunError(f"evaluation: all of its {self._rows} groups were dropped. The last one: {self._last_error}")
        groups = sorted(self._groups, key=lambda group: group.group_id)
        return eval_metrics(groups, dropped=self._dropped, seconds=time.monotonic() - started), groups

    async def finished(self, replica: str, message: GroupDone) -> None:
        if self.placement.settle(replica, message.group_id):
            self._groups.append(message)
            await self._go_on()

    async def failed(self, replica: str, message: GroupFailed) -> None:
        if self.placement.settle(replica, message.group_id):
            self._dropped += 1
            self._last_error = message.error
            self._context.log("warning", f"evaluation: group {message.group_id} dropped: {message.error}")
            await self._go_on()

    def _begin(self, version: int) -> None:
        config = self._context.config
        assert config.eval is not None
        samples = config.eval.samples
        seeds = (derive(config.run.seed, "eval", row) for row in range(self._rows))
        self._todo = deque(Lease(row, row, samples, version, seed, kind="eval") for row, seed in enumerate(seeds))
        self._groups, self._dropped = [], 0
        self._complete.clear()

    async def _hand_out(self) -> None:
        count = min(len(self._todo), self._width - self.placement.out)
        leases = [self._todo.popleft() for _ in range(count)]
        await self.placement.hand_out(leases, derive(self._context.config.run.seed, "eval"))

    async def _go_on(self) -> None:
        self._context.progress.moved()
        if self._todo:
            await self._hand_out()
        elif not self.placement.out:
            self._complete.set()
