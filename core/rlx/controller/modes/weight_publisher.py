"""Publishes the policy's weights: decides the order of training, transfers and verification.

A transfer of version v waits until the version before is verified. Verification of v runs in the background: as soon as
the policy has sent and scored its weights, it may train again.

Nothing waits for a replica that is away, unless no other one is left. If a replica dies while weights move, the
policy's current version is sent again to those that are left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rlx.controller.groups.groups import Groups
from rlx.controller.groups.placement import Placements
from rlx.controller.health.restarts import Restarts
from rlx.controller.modes.weight_sync import Interrupted, SentWeights, WeightSync
from rlx.controller.records.metrics import SyncMetrics
from rlx.controller.runtime.services import Services


class WeightPublisher:
    """Sends versions to the replicas, one after another, also to those that return after a restart."""

    def __init__(
        self,
        services: Services,
        sync: WeightSync,
        *,
        groups: Groups,
        placements: Placements,
        restarts: Restarts,
        on_synced: Callable[[SyncMetrics], None],
    ) -> None:
        self._services = services
        self._sync = sync
        self._groups = groups
        self._placements = placements
        self._restarts = restarts
        self._on_synced = on_synced
        self._version = -1
        self._payloads: list[bytes] = []
        self._sent: int | None = None
        """The version that was sent last; None if it has to be sent again."""
        self._verification: asyncio.Task[None] | None = None
        self.weights_lock = asyncio.Lock()
        """Held while the policy trains a step or takes part in a transfer: training changes its weights."""
        self.metrics: dict[str, float] = {}
        """Metrics of the newest verified sync."""

    def trained(self, version: int, payloads: list[bytes]) -> None:
        """Record that the policy has made `version` from `payloads`. Must be called under `weights_lock`."""
        self._version = version
        self._payloads = payloads

    async def start(self, version: int) -> None:
        """Open the transfer group, publish the first version and verify it."""
        self._version = version
        await self.resync()
        await self.verified()

    async def publish(self, version: int) -> None:
        """Send `version`, the policy's, to all replicas; in a synchronous run, also wait until it is verified."""
        assert version == self._version
        await self.resync()
        if self._groups.barrier:
            await self.verified()

    async def verified(self) -> None:
        """Wait until the policy's version, or the one before if that was not sent yet, is verified in all engines."""
        await self._settled()
        while self._sent is None:
            await self.resync()
            await self._settled()

    async def resync(self) -> None:
        """Send the policy's version, unless all replicas that are present have got it.

        A policy that waits for groups that only a returned replica can sample would never publish a version otherwise.
        """
        async with self.weights_lock:
            await self._settled()
            if self._sent != self._version or self._restarts.need_weights:
                await self._send(self._version)

    async def _settled(self) -> None:
        """Wait for the end of the verification in progress, whatever its result."""
        if self._verification is not None:
            await self._verification

    async def _send(self, version: int) -> None:
        self._sent = None
        while self._sent is None:
            await self._restarts.wait()
            self._groups.in_flight = version
            try:
                if self._sync.members != self._restarts.present:
                    await self._sync.open_group(self._restarts.present)
                sent = await self._sync.send(version, self._payloads)
            except Interrupted as interrupted:
                self._report(version, interrupted)
            else:
                self._sent = version
        self._verification = self._services.failure.spawn(self._verify(sent), f"verification of version {version}")

    async def _verify(self, sent: SentWeights) -> None:
        try:
            metrics = await self._sync.verify(sent)
        except Interrupted as interrupted:
            self._report(sent.version, interrupted)
            self._sent = None
            self._services.failure.spawn(self.resync(), f"weights of version {sent.version} again")
            return
        self._on_synced(metrics)
        self.metrics = metrics.metrics
        await self._services.hooks.call("rlx_weights_synced", version=sent.version, metrics=self.metrics)
        for name, attempt in sent.members.items():
            if self._restarts.holds_weights(name, attempt):
                await self._placements.add_replica(name)
        await self._groups.version_verified(sent.version)

    def _report(self, version: int, interrupted: Interrupted) -> None:
        what = f"the transfer of version {version}, which is repeated with those that are left"
        self._services.log("warning", f"{interrupted} died during {what}")
