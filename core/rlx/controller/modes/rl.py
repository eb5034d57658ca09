"""RL: groups come from the replicas, weights are sent to them.

A synchronous run (`async.max_staleness = 0`) samples, trains, syncs and verifies, one after another. With staleness,
sampling never stops, and training continues as soon as the policy has sent and scored its weights, while the
verification of the replicas is still running.

A replica that dies in between is restarted (health/restarts.py), and the others go on without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from rlx.controller.groups.evaluation import Evaluation
from rlx.controller.groups.groups import Groups
from rlx.controller.groups.ledger import Ledger
from rlx.controller.groups.placement import Placements
from rlx.controller.groups.received import check_group
from rlx.controller.health.busy_time import BusyTime
from rlx.controller.health.restarts import ReplicaDied, Restarts
from rlx.controller.modes.mode import ReplicaMessage
from rlx.controller.modes.trajectory_writer import TrajectoryWriter
from rlx.controller.modes.weight_publisher import WeightPublisher
from rlx.controller.records.metrics import TrainedStep, group_metrics
from rlx.controller.records.samples import samples_of
from rlx.controller.records.summary import GroupCounts
from rlx.controller.records.trajectories import GroupRecord
from rlx.controller.runtime.failure import together
from rlx.controller.runtime.services import Services
from rlx.errors import RunError, owned
from rlx.fingerprint import Fingerprint
from rlx.names import POLICY
from rlx.transport.messages import (
    DropGroups,
    GroupDone,
    GroupFailed,
    Ok,
    RolloutReady,
    RolloutStats,
    Samples,
    StepDone,
    TrainStep,
)

DROP_SECONDS = 60.0
"""How long a replica may take to drop its groups."""


class RLMode:
    """The `TrainingMode` of RL, which is also its own `Sampling`."""

    def __init__(
        self,
        services: Services,
        *,
        groups: Groups,
        ledger: Ledger,
        weights: WeightPublisher,
        evaluation: Evaluation | None,
        placements: Placements,
        restarts: Restarts,
        fingerprint: Fingerprint,
    ) -> None:
        self._services = services
        self._groups = groups
        self._ledger = ledger
        self._weights = weights
        self._evaluation = evaluation
        self._placements = placements
        self._restarts = restarts
        evaluation_samples = services.config.eval.samples if services.config.eval is not None else 0
        self._samples = {"train": services.config.algorithm.group_size, "eval": evaluation_samples}
        self._busy = BusyTime(services.replicas)
        self._writer = TrajectoryWriter(services)
        self._counted_tokens = 0
        self._counted_uninformative = groups.drops.uninformative
        self._keep_payloads = services.config.checkpoint.midway
        self._closed = False
        self.fingerprint = fingerprint
        self.last: tuple[int, TrainedStep] | None = None

    @property
    def sampling(self) -> RLMode:
        return self

    @property
    def counts(self) -> GroupCounts:
        drops = self._groups.drops
        return GroupCounts(
            next_group_id=self._groups.next_id,
            untrained=self._groups.untrained,
            dropped=drops.failed,
            uninformative=drops.uninformative,
            bad_rows=self._groups.bad_rows.counts,
            named_rows=[*self._groups.bad_rows.named, *(self._evaluation.bad_rows.named if self._evaluation else [])],
            restarts=self._restarts.count,
        )

    def generate_seconds(self) -> float:
        return self._busy.generate_seconds()

    def describe(self) -> str:
        parts = [f"{self._groups.out} leases out" if self._groups.out else "no lease out", self._busy.oldest()]
        return ", ".join(part for part in parts if part)

    def stop_after(self, steps: int) -> None:
        self._groups.stop_after(steps)

    async def start(self, version: int) -> None:
        await self._weights.start(version)

    async def train(self, step: int) -> TrainedStep:
        """Wait for the groups of `step` and train the policy on them."""
        began = time.monotonic()
        groups = await self._groups.collect(step)
        waited = time.monotonic() - began
        await self._weights.weights_lock.acquire()
        return await self._services.failure.uncancelled(self._train(step, groups, waited), f"train step {step}")

    async def _train(self, step: int, groups: list[GroupDone], waited: float) -> TrainedStep:
        """Train the policy, and record that. Releases `weights_lock` when the policy has trained."""
        payloads = [group.payload for group in groups]
        try:
            with self._services.progress.waiting(f"policy trains step {step}"):
                done = await self._services.ask(POLICY, TrainStep(step, payloads), StepDone, f"trains step {step}")
            self._weights.trained(step + 1, payloads)
        finally:
            self._weights.weights_lock.release()
        self._groups.trained(step, groups, keep_payloads=self._keep_payloads)
        uninformative = self._groups.drops.uninformative - self._counted_uninformative
        generated = self._groups.generated_tokens - self._counted_tokens
        self._counted_uninformative += uninformative
        self._counted_tokens += generated
        trained = TrainedStep(
            metrics={**done.metrics, **group_metrics(groups, step, uninformative=uninformative)},
            wait_seconds=waited,
            train_seconds=done.seconds,
            generated_tokens=generated,
            trained_tokens=sum(group.tokens + group.prompt_tokens for group in groups),
        )
        self.last = (step, trained)
        pairs = zip(groups, done.advantages, strict=True)
        records = [GroupRecord(group.payload, group.reference, advantages) for group, advantages in pairs]
        await self._writer.write(f"step_{step:05d}", records, step, "train")
        self._services.notify_launcher(Samples(step, samples_of(groups)))
        return trained

    async def publish(self, version: int) -> dict[str, float]:
        await self._weights.publish(version)
        return self._weights.metrics

    async def evaluate(self, version: int) -> dict[str, float]:
        """Sample and score the evaluation rows with the newest weights."""
        assert self._evaluation is not None
        await self._weights.verified()
        metrics, groups = await self._evaluation.run(version)
        records = [GroupRecord(group.payload, group.reference) for group in groups]
        await self._writer.write(f"eval_{version:05d}", records, version, "eval")
        self._services.notify_launcher(Samples(version, samples_of(groups), "eval"))
        return metrics

    async def flush(self) -> None:
        await self._weights.verified()
        await self._writer.flush()
        with self._services.progress.waiting("ledger is written to disk"):
            await asyncio.to_thread(self._ledger.flush)

    async def settle(self) -> None:
        await self._writer.settle()
        with self._services.progress.waiting("ledger is written to disk"):
            await asyncio.to_thread(self._ledger.flush)

    def checkpointed(self, version: int) -> None:
        self._ledger.purge(version)

    async def close(self) -> None:
        self._closed = True
        await asyncio.to_thread(self._ledger.close)

    async def drop_groups(self) -> None:
        async def ask(name: str) -> None:
            asking = self._services.ask(name, DropGroups(), Ok, "drops its groups", timeout=DROP_SECONDS)
            with contextlib.suppress(ReplicaDied):  # its next attempt holds none
                await self._restarts.while_alive(name, asking)

        await together(ask(name) for name in self._restarts.present)

    def lost(self) -> int:
        return self._groups.next_id - sum(self._ledger.counts().values())

    def is_current(self, name: str, attempt: int) -> bool:
        return attempt == self._restarts.attempt(name)

    def is_away(self, name: str) -> bool:
        return self._restarts.is_away(name)

    async def restart(self, name: str, why: str) -> bool:
        if self._restarts.exhausted():
            return False
        # This comes first: from here on, reports about the attempt that died are ignored.
        self._restarts.begin(name, why)
        self._busy.restarted(name)
        if not self._closed:
            await self._placements.remove_replica(name)
        return True

    async def handle(self, replica: str, message: ReplicaMessage) -> None:
        match message:
            case RolloutReady():
                if self._restarts.ready(replica) and not self._closed:
                    self._services.failure.spawn(self._weights.resync(), f"weights for {replica} after its restart")
            case GroupDone() | GroupFailed() if self._closed:
                pass  # the policy is being restarted: these groups are undone
            case GroupDone():
                check_group(
                    message, samples=self._samples.get(message.kind, 0), vocab_size=self._services.policy.vocab_size
                )
                if (groups := self._groups_of(message.kind)) is not None:
                    await groups.finished(replica, message)
            case GroupFailed():
                await self._require_drop(replica, message)
                if (groups := self._groups_of(message.kind)) is not None:
                    await groups.failed(replica, message)
            case RolloutStats():
                if self._busy.report(replica, message):
                    self._services.progress.moved()
                if not self._closed:
                    await self._placements.report(replica, message.held)

    def _groups_of(self, kind: str) -> Groups | Evaluation | None:
        return self._groups if kind == "train" else self._evaluation

    async def _require_drop(self, replica: str, message: GroupFailed) -> None:
        """Raise RunError unless a failed group may be dropped: a hook decides, or else the message."""
        answer = await self._services.hooks.call("rlx_rollout_failed", error=message.error)
        if answer not in {None, "drop", "fail"}:
            raise RunError(f"a hook answered rlx_rollout_failed with {answer!r}; it must return 'drop', 'fail' or None")
        if answer == "fail" or (answer is None and not message.drop):
            error = owned(message.error, message.owner)
            raise RunError(f"{replica}, group {message.group_id} of {message.kind}: {error}{_advice(message)}")


def _advice(message: GroupFailed) -> str:
    """Return what to do about a failed group whose row is to blame."""
    if message.bad_row is None:
        return ""
    table = "dataset" if message.kind == "train" else "eval.dataset"
    return f'\n[{table}] on_bad_row = "drop" leaves such rows out and counts them; a resume may set it, too.'
