"""Publishes the policy's weights: decides the order of training, transfers and verification.

A transfer of version v waits until the version before is verified and no replica is away. Verification of v runs in
the background: as soon as the policy has sent and scored its weights, it may train again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rlx.controller.groups.groups import Groups
from rlx.controller.groups.placement import Placements
from rlx.controller.health.restarts import Restarts
from rlx.controller.modes.weight_sync import SentWeights, WeightSync
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
        self._version: int | None = None
        self._payloads: list[bytes] = []
        self._sync_in_progress = False
        self._verification: asyncio.Task[None] | None = None
        self.weights_lock = asyncio.Lock()
        """Held while the policy trains a step or takes part in a transfer: training changes its weights."""
        self.metrics: dict[str, float] = {}
        """Metrics of the newest verified sync."""

    @property
    def idle(self) -> bool:
        """Whether the last sync is verified, and no other one is in progress."""
        return self._version is not None and not self._sync_in_progress

    def trained(self, version: int, payloads: list[bytes]) -> None:
        """Record that the policy has made `version` from `payloads`. Must be called under `weights_lock`."""
        self._version = version
        self._payloads = payloads

    async def start(self, version: int) -> None:
        """Open the transfer group, publish the first version and verify it."""
        self._sync_in_progress = True
        await self._sync.open_group()
        self._version = version
        await self.publish(version)
        await self.verified()

    async def publish(self, version: int) -> None:
        """Send `version` to all replicas; in a synchronous run, also wait until it is verified."""
        async with self.weights_lock:
            await self._send(version)
        if self._groups.barrier:
            await self.verified()

    async def verified(self) -> None:
        """Wait until the last version that was sent is verified in all engines."""
        if self._verification is not None:
            await self._verification

    async def sync_returned(self) -> None:
        """Send the current version to replicas that have returned, unless `publish` has done so meanwhile.

        Without this, a policy that waits for groups that only these replicas can sample would never publish a version.
        """
        async with self.weights_lock:
            if self._restarts.need_weights:
                assert self._version is not None
                await self._send(self._version)

    async def _send(self, version: int) -> None:
        await self.verified()
        await self._restarts.wait()
        self._sync_in_progress = True
        returned = self._restarts.take_returned()
        if returned:
            await self._sync.open_group()
        self._groups.in_flight = version
        sent = await self._sync.send(version, self._payloads)
        verification = self._verify(sent, returned)
        self._verification = self._services.failure.spawn(verification, f"verification of version {version}")

    async def _verify(self, sent: SentWeights, returned: set[str]) -> None:
        metrics = await self._sync.verify(sent)
        self._sync_in_progress = False
        self._on_synced(metrics)
        self.metrics = metrics.metrics
        await self._services.hooks.call("rlx_weights_synced", version=sent.version, metrics=self.metrics)
        for name in sorted(returned):
            await self._placements.add_replica(name)
        await self._groups.version_verified(sent.version)
