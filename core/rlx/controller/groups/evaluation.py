"""Evaluation on held-out rows: all rows of the evaluation dataset, or its first `limit`, sampled with the current
weights and scored.

In a synchronous run evaluation is a phase of its own: all groups are leased at once behind a barrier and the engines
are reseeded, so that it repeats bit for bit. With staleness it runs beside training: a bounded number of its groups
is leased at any time, and the weights may change during the evaluation: its metrics say which versions sampled its
tokens.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

from rlx.controller.groups.placement import Placement
from rlx.controller.records.bad_rows import BadRows
from rlx.controller.records.metrics import eval_metrics
from rlx.controller.runtime.services import Services
from rlx.datasets.order import derive_seed
from rlx.episodes import decode_episodes, version_span
from rlx.errors import RunError
from rlx.transport.messages import GroupDone, GroupFailed, Lease


class Evaluation:
    """Runs one evaluation at a time. The ids of its groups are rows of the evaluation dataset."""

    def __init__(self, services: Services, *, rows: int, placement: Placement) -> None:
        self._services = services
        self._rows = rows
        self._max_leased = (
            rows if placement.barrier else max(services.config.policy.groups_per_step, len(services.replicas))
        )
        self._queue: deque[Lease] = deque()
        self.placement = placement
        self._groups: list[GroupDone] = []
        self._version = 0
        self._versions: set[int] = set()
        self._dropped = 0
        self._last_error = ""
        self.bad_rows = BadRows("eval.dataset", services.log)
        self._complete = asyncio.Event()

    async def run(self, version: int) -> tuple[dict[str, float], list[GroupDone]]:
        """Evaluate with the newest weights in the engines, which are those of `version` or newer.

        Returns the metrics, and the groups by row. Raises RunError if all were dropped.
        """
        started = time.monotonic()
        config = self._services.config
        assert config.eval is not None
        samples = config.eval.samples
        seeds = (derive_seed(config.run.seed, "eval", row) for row in range(self._rows))
        self._queue = deque(Lease(row, row, samples, version, seed, kind="eval") for row, seed in enumerate(seeds))
        self._groups, self._dropped = [], 0
        self._version, self._versions = version, set()
        self._complete.clear()
        try:
            with self._services.progress.waiting(f"evaluation of version {version} waits for its {self._rows} groups"):
                await self._hand_out()
                await self._complete.wait()
        finally:
            # A cancelled evaluation leases nothing more, although groups of it may still arrive.
            self._queue.clear()
        if not self._groups:
            raise RunError(f"evaluation: all of its {self._rows} groups were dropped. The last one: {self._last_error}")
        groups = sorted(self._groups, key=lambda group: group.group_id)
        metrics = eval_metrics(groups, dropped=self._dropped, seconds=time.monotonic() - started)
        span = {"eval/version_min": float(min(self._versions)), "eval/version_max": float(max(self._versions))}
        return metrics | span, groups

    async def finished(self, replica: str, message: GroupDone) -> None:
        """Add a finished group from a replica."""
        span = version_span(decode_episodes(message.payload)) or (self._version, self._version)
        if span[0] < self._version:
            # All engines hold this evaluation's version, so this is a second copy of a group of an earlier one.
            self._services.log("warning", f"{replica} sent a group of an earlier evaluation; ignored")
        elif self.placement.release(replica, message.group_id):
            self._groups.append(message)
            self._versions.update(span)
            await self._advance()

    async def failed(self, replica: str, message: GroupFailed) -> None:
        """Drop a group that failed on a replica, and count it."""
        if self.placement.release(replica, message.group_id):
            self._dropped += 1
            self._last_error = message.error
            if message.bad_row is not None:
                self.bad_rows.drop(message.group_id, message.bad_row, message.error)
            else:
                self._services.log("warning", f"evaluation: group {message.group_id} dropped: {message.error}")
            await self._advance()

    async def _hand_out(self) -> None:
        count = min(len(self._queue), self._max_leased - self.placement.out)
        leases = [self._queue.popleft() for _ in range(count)]
        await self.placement.hand_out(leases, derive_seed(self._services.config.run.seed, "eval"))

    async def _advance(self) -> None:
        self._services.progress.moved()
        if self._queue:
            await self._hand_out()
        elif not self.placement.out:
            self._complete.set()
