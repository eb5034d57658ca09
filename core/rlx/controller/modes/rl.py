"""Learning from samples: groups come from the replicas, weights go back to them.

Synchronous (`async.max_staleness = 0`): sample, train, sync, verify, one after another. With staleness: sampling
never stops; training goes on as soon as the policy has sent and scored its weights, while the replicas' proof is
still awaited.

A replica that dies in between is started again (revival.py). What the policy does changes its version, so nothing else
that is about weights happens meanwhile: `_quiet` is held by whoever trains a step or moves weights.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from rlx.controller.context import Context
from rlx.controller.groups.evaluation import Evaluation
from rlx.controller.groups.groups import Groups
from rlx.controller.groups.least_loaded import LeastLoaded
from rlx.controller.groups.ledger import Ledger
from rlx.controller.health.busy_time import BusyTime
from rlx.controller.health.restarts import Restarts
from rlx.controller.modes.weight_sync import Sent, WeightSync
from rlx.controller.records.metrics import SyncMetrics, Trained, group_metrics
from rlx.controller.records.trajectories import write_groups
from rlx.errors import RunError, owned
from rlx.files import writing
from rlx.fingerprint import Fingerprint
from rlx.names import POLICY, TRAJECTORIES
from rlx.transport.messages import GroupDone, GroupFailed, RolloutStats, StepDone, TrainStep


class RLMode:
    """The `Work` of RL."""

    def __init__(
        self,
        context: Context,
        *,
        groups: Groups,
        ledger: Ledger,
        sync: WeightSync,
        evaluation: Evaluation | None,
        fingerprint: Fingerprint,
        load: LeastLoaded,
        synced: Callable[[SyncMetrics], None],
    ) -> None:
        self._context = context
        self._groups = groups
        self._ledger = ledger
        self._sync = sync
        self._evaluation = evaluation
        self._fingerprint = fingerprint
        self._load = load
        self._synced = synced
        self._placements = [part.placement for part in (groups, evaluation) if part is not None]
        self._revival = Restarts(context)
        self._lost: set[str] = set()
        self._quiet = asyncio.Lock()
        self._version: int | None = None
        self._moving = False
        self._activity = BusyTime(context.replicas)
        self._proof: asyncio.Task[None] | None = None
        self._writes: list[asyncio.Task[None]] = []
        self._trained: list[bytes] = []
        self._counted_tokens = 0
        self._counted_uninformative = groups.drops.uninformative
        self._sync_metrics: dict[str, float] = {}
        self._keep_payloads = context.config.checkpoint.midway

    @property
    def next_group_id(self) -> int:
        return self._groups.next_id

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    @property
    def dropped(self) -> int:
        return self._groups.drops.failed

    @property
    def uninformative(self) -> int:
        return self._groups.drops.uninformative

    def generate_seconds(self) -> float:
        return self._activity.generate_seconds()

    def describe(self) -> str:
        parts = [f"{self._groups.out} leases out" if self._groups.out else "no lease out", self._activity.oldest()]
        return ", ".join(part for part in parts if part)

    def stop_after(self, steps: int) -> None:
        self._groups.stop_after(steps)

    async def open(self, version: int) -> None:
        self._moving = True
        await self._sync.open()
        self._version = version
        await self.publish(version)
        await self._proven()

    async def train(self, step: int) -> Trained:
        began = time.monotonic()
        groups = await self._groups.collect(step)
        waited = time.monotonic() - began
        payloads = [group.payload for group in groups]
        async with self._quiet:
            with self._context.progress.waiting(f"policy trains step {step}"):
                done = await self._context.ask(POLICY, TrainStep(step, payloads), StepDone, f"trains step {step}")
            self._version = step + 1
        self._groups.train(step, groups, keep_payloads=self._keep_payloads)
        self._trained = payloads
        await self._record(f"step_{step:05d}", payloads, step)
        return Trained(
            metrics={**done.metrics, **group_metrics(groups, step, uninformative=self._new_uninformative())},
            wait_seconds=waited,
            train_seconds=done.seconds,
            generated_tokens=self._new_tokens(),
            trained_tokens=sum(group.tokens + group.prompt_tokens for group in groups),
        )

    async def publish(self, version: int) -> None:
        async with self._quiet:
            await self._move(version)
        if self._groups.barrier:
            await self._proven()

    async def evaluate(self, version: int) -> dict[str, float]:
        assert self._evaluation is not None
        await self._proven()
        metrics, groups = await self._evaluation.run(version)
        await self._record(f"eval_{version:05d}", [group.payload for group in groups], version)
        return metrics

    async def settle(self) -> None:
        await self._proven()
        await asyncio.gather(*self._writes)
        with self._context.progress.waiting("ledger is written"):
            await asyncio.to_thread(self._ledger.flush)

    def covered(self, version: int) -> None:
        self._ledger.purge(version)

    async def close(self) -> None:
        await asyncio.to_thread(self._ledger.close)

    def lost(self) -> int:
        return self._groups.next_id - sum(self._ledger.counts().values())

    def sync_metrics(self) -> dict[str, float]:
        """Of the newest proven sync."""
        return self._sync_metrics

    @property
    def restarts(self) -> int:
        return self._revival.count

    def holds(self, name: str, attempt: int) -> bool:
        """Whether that attempt of a replica is the one that counts."""
        return attempt == self._revival.attempt(name)

    async def lose(self, name: str, why: str) -> bool:
        """A replica died. False where the run cannot go on without it."""
        if self._version is None or self._moving or self._revival.exhausted():
            return False
        # First of all: whatever else is said of this attempt from here on is no news.
        self._revival.begin(name, why)
        self._activity.restarted(name)
        if name not in self._lost:
            self._lost.add(name)
            self._load.remove(name)
            for placement in self._placements:
                await placement.lose(name)
        return True

    def ready(self, name: str) -> None:
        """A replica is there; one that was away gets weights."""
        if self._revival.ready(name):
            self._context.failure.spawn(self._bring_back(), f"{name} takes part again")

    async def finished(self, replica: str, message: GroupDone) -> None:
        if message.kind == "train":
            await self._groups.finished(replica, message)
        elif self._evaluation is not None:
            await self._evaluation.finished(replica, message)

    async def failed(self, replica: str, message: GroupFailed) -> None:
        """Raises RunError where the group may not be dropped."""
        if not self._may_drop(message):
            error = owned(message.error, message.owner)
            raise RunError(f"{replica}, group {message.group_id} of {message.kind}: {error}")
        if message.kind == "train":
            await self._groups.failed(replica, message)
        elif self._evaluation is not None:
            await self._evaluation.failed(replica, message)

    def reported(self, replica: str, message: RolloutStats) -> None:
        if self._activity.report(replica, message):
            self._context.progress.moved()

    def _may_drop(self, message: GroupFailed) -> bool:
        answer = self._context.hooks.rlx_rollout_failed(error=message.error)
        if answer not in {None, "drop", "fail"}:
            raise RunError(f"a hook answered rlx_rollout_failed with {answer!r}; it may say 'drop', 'fail' or None")
        return message.drop if answer is None else bool(answer == "drop")

    async def _bring_back(self) -> None:
        """Where the policy has nothing to train before the groups of who was away, no version is published."""
        async with self._quiet:
            if self._revival.due:
                assert self._version is not None
                await self._move(self._version)

    async def _move(self, version: int) -> None:
        await self._proven()
        await self._revival.wait()
        self._moving = True
        returned = self._revival.take_returned()
        if returned:
            await self._sync.open()
        self._groups.in_flight = version
        sent = await self._sync.send(version, self._trained)
        self._proof = self._context.failure.spawn(self._prove(sent, returned), f"proof of version {version}")

    async def _prove(self, sent: Sent, returned: set[str]) -> None:
        figures = await self._sync.verify(sent)
        self._moving = False
        self._synced(figures)
        self._sync_metrics = figures.metrics
        self._context.hooks.rlx_weights_synced(version=sent.version, metrics=self._sync_metrics)
        for name in sorted(returned):
            self._lost.discard(name)
            self._load.add(name)
            for placement in self._placements:
                await placement.regain(name)
        await self._groups.prove(sent.version)

    async def _proven(self) -> None:
        if self._proof is not None:
            await self._proof

    async def _record(self, name: str, payloads: list[bytes], step: int) -> None:
        """In a thread; what was begun before is awaited, so that files cannot pile up."""
        await asyncio.gather(*self._writes)
        path = self._context.run_dir / TRAJECTORIES / f"{name}.parquet"
        self._writes = [write for write in self._writes if not write.done()]
        self._writes.append(self._context.failure.spawn(_write(path, payloads, step), f"writes {path.name}"))

    def _new_tokens(self) -> int:
        new = self._groups.generated_tokens - self._counted_tokens
        self._counted_tokens = self._groups.generated_tokens
        return new

    def _new_uninformative(self) -> int:
        new = self.uninformative - self._counted_uninformative
        self._counted_uninformative = self.uninformative
        return new


async def _write(path: Path, payloads: list[bytes], step: int) -> None:
    with writing(f"trajectories {path}"):
        await asyncio.to_thread(write_groups, path, payloads, step=step)
