"""Trajectory files, written in the background while the run continues."""

from __future__ import annotations

import asyncio

from rlx.config.sections.data import reward_labels
from rlx.controller.records.trajectories import GroupRecord, Split, write_groups
from rlx.controller.runtime.services import Services
from rlx.files import writing
from rlx.names import TRAJECTORIES


class TrajectoryWriter:
    """Writes groups to `trajectories/<name>.parquet`, in a thread. A failed write fails the run."""

    def __init__(self, services: Services) -> None:
        self._services = services
        config = services.config
        evaluated = config.eval.rewards if config.eval is not None and config.eval.rewards is not None else []
        self._rewards = [*reward_labels(config.rewards), *reward_labels(evaluated)]
        self._writes: list[asyncio.Task[None]] = []

    async def write(self, name: str, groups: list[GroupRecord], step: int, split: Split) -> None:
        """Start to write a file, after waiting for earlier files, so that writes cannot pile up."""
        await self.flush()
        self._writes = [write for write in self._writes if not write.done()]
        self._writes.append(
            self._services.failure.spawn(self._write(name, groups, step, split), f"write {name}.parquet")
        )

    async def flush(self) -> None:
        """Wait until all files are written."""
        await asyncio.gather(*self._writes)

    async def settle(self) -> None:
        """Wait until all files are written or have failed."""
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def _write(self, name: str, groups: list[GroupRecord], step: int, split: Split) -> None:
        path = self._services.run_dir / TRAJECTORIES / f"{name}.parquet"
        with writing(f"trajectories {path}"):
            await asyncio.to_thread(write_groups, path, groups, step=step, split=split, rewards=self._rewards)
