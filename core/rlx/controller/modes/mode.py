"""The protocols of a training mode, as the run loop and the controller use it.

A mode with replicas (RL) also implements `Sampling`. A mode without replicas (SFT) has `NoSampling`, and so has a run
before its mode is built.
"""

# ruff: noqa: ARG002 - `NoSampling` ignores the arguments of the protocol

from __future__ import annotations

from typing import Protocol

from rlx.controller.records.metrics import TrainedStep
from rlx.controller.records.summary import GroupCounts
from rlx.fingerprint import Fingerprint
from rlx.transport.messages import GroupDone, GroupFailed, RolloutReady, RolloutStats

ReplicaMessage = RolloutReady | GroupDone | GroupFailed | RolloutStats


class TrainingMode(Protocol):
    """One way to train: trains steps and evaluates versions."""

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the training dataset."""

    @property
    def last(self) -> tuple[int, TrainedStep] | None:
        """The last step that the policy has trained in this attempt of the run, with its number."""

    @property
    def sampling(self) -> Sampling:
        """The part of the mode that deals with replicas."""

    async def train(self, step: int) -> TrainedStep:
        """Train one step, which makes version `step + 1`.

        A step that the policy has begun is finished, and is then `last`, even if this is cancelled.
        """

    async def evaluate(self, version: int) -> dict[str, float]:
        """Return the metrics of an evaluation."""


class Sampling(Protocol):
    """The part of a mode that deals with replicas: their groups, their weights, their restarts."""

    @property
    def counts(self) -> GroupCounts:
        """Counts over the whole run."""

    def generate_seconds(self) -> float:
        """Return the seconds since the start in which engines were busy (mean over engines)."""

    def describe(self) -> str:
        """Describe the leased groups, for the watchdog: `3 leases out, oldest 480 s in ...`."""

    async def start(self, version: int) -> None:
        """Publish and verify the policy's weights of `version`, the first one of this attempt."""

    async def publish(self, version: int) -> dict[str, float]:
        """Send the policy's weights of `version` to the replicas.

        Returns the metrics of the newest verified weight sync, which with staleness may be an earlier version's.
        """

    def stop_after(self, steps: int) -> None:
        """Lease no more groups than the first `steps` steps train: the run ends there."""

    async def flush(self) -> None:
        """Wait until the trained steps are on disk (ledger, trajectories) and their weights are verified."""

    async def settle(self) -> None:
        """Wait until the trained steps are in the ledger on disk, after the run has failed."""

    def checkpointed(self, version: int) -> None:
        """Delete what was kept only until a checkpoint of `version` is committed."""

    async def close(self) -> None:
        """Finish queued writes. Afterwards only `counts` and `lost` may be used."""

    async def drop_groups(self) -> None:
        """Make the replicas drop what they sample and score. Only after `close`."""

    def lost(self) -> int:
        """Return the number of groups that the ledger does not account for. Anything but 0 is a bug."""

    async def handle(self, replica: str, message: ReplicaMessage) -> None:
        """Handle a message from a replica."""

    def is_current(self, name: str, attempt: int) -> bool:
        """Whether `attempt` is the newest attempt of a replica."""

    def is_away(self, name: str) -> bool:
        """Whether a replica was restarted and is not ready yet."""

    async def restart(self, name: str, why: str) -> bool:
        """Restart a replica that died for the reason `why`. Returns False if the run cannot continue without it."""


class NoSampling:
    """The `Sampling` of a run without replicas: nothing to lease, to publish or to restart."""

    counts = GroupCounts()

    def generate_seconds(self) -> float:
        return 0.0

    def describe(self) -> str:
        return ""

    async def start(self, version: int) -> None: ...

    async def publish(self, version: int) -> dict[str, float]:
        return {}

    def stop_after(self, steps: int) -> None: ...

    async def flush(self) -> None: ...

    async def settle(self) -> None: ...

    def checkpointed(self, version: int) -> None: ...

    async def close(self) -> None: ...

    async def drop_groups(self) -> None: ...

    def lost(self) -> int:
        return 0

    async def handle(self, replica: str, message: ReplicaMessage) -> None:
        """Ignore the message: engines send reports even before the run begins."""

    def is_current(self, name: str, attempt: int) -> bool:
        return True

    def is_away(self, name: str) -> bool:
        return False

    async def restart(self, name: str, why: str) -> bool:
        return False
