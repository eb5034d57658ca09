"""What differs between learning from samples (rl.py) and learning from rows (sft.py); the run loop (loop.py) knows
only this.
"""

from __future__ import annotations

from typing import Protocol

from rlx.controller.records.metrics import Trained
from rlx.fingerprint import Fingerprint


class TrainingMode(Protocol):
    """One way to learn."""

    @property
    def next_group_id(self) -> int:
        """The ledger's frontier; 0 where there is no ledger."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the training dataset."""

    @property
    def dropped(self) -> int:
        """Groups that could not be had."""

    @property
    def uninformative(self) -> int:
        """Groups that were dropped because they teach nothing."""

    @property
    def restarts(self) -> int:
        """Replicas that died and were started again."""

    def generate_seconds(self) -> float:
        """Seconds since the start in which engines were busy (mean over engines)."""

    def describe(self) -> str:
        """What is out, for the watchdog: '3 leases out, oldest 480 s in ...'."""

    def sync_metrics(self) -> dict[str, float]:
        """Of the newest sync that is proven; empty where nothing is synced."""

    def stop_after(self, steps: int) -> None:
        """The run will end after so many steps: nothing is begun for later ones."""

    async def open(self, version: int) -> None:
        """The run begins (or goes on) with the policy's weights of `version`."""

    async def train(self, step: int) -> Trained: ...

    async def publish(self, version: int) -> None:
        """The policy has made the weights of `version`."""

    async def evaluate(self, version: int) -> dict[str, float]: ...

    async def settle(self) -> None:
        """All that belongs to the trained steps is written and proven."""

    def covered(self, version: int) -> None:
        """A checkpoint of `version` is committed."""

    async def close(self) -> None:
        """Writes what is still to be written; nothing is asked of it afterwards but `lost`."""

    def lost(self) -> int:
        """Groups of which nobody knows what became; any but 0 is a defect."""
