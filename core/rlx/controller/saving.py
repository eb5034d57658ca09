"""Checkpoints while training goes on: it stops for the copy of the policy's state, and one rename commits the files.

Rules:

* One checkpoint is written at a time; the next one waits for it, and the log says so.
* The controller's part is as of the copy: of the moment between two steps at which the policy's part was copied.
* A checkpoint is committed when the files of all ranks, the ledger and the trajectories are on disk, and its version is
  verified. A run that ends at any moment before leaves the checkpoints that it had, and a folder ending in `.tmp`.
* The end of a run, and an export, wait for the checkpoint that is being written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rlx.controller.modes.mode import Sampling
from rlx.controller.records import checkpoint
from rlx.controller.records.best import Best
from rlx.controller.records.checkpoint import POLICY_PART, HookState, SavedState
from rlx.controller.records.summary import Totals
from rlx.controller.runtime.services import Services
from rlx.errors import HookError, RunError, WaitTimeout
from rlx.files import writing
from rlx.names import POLICY
from rlx.transport.messages import CheckpointWritten, Ok, SaveCheckpoint

SETTLE_SECONDS = 20.0
"""Longest time that a run which has failed waits for a checkpoint that is being written."""
_REPORT_SECONDS = 30.0
"""Time for a report that the policy has been late with to arrive: it says which rank is late."""


class Saving:
    """Saves versions as checkpoints, and keeps those that the config wants kept."""

    def __init__(
        self,
        services: Services,
        sampling: Sampling,
        best: Best,
        totals: Totals,
        state: Callable[[int], SavedState],
        *,
        version: int,
    ) -> None:
        """`state(version)` returns the controller's part of a checkpoint; `version` is the newest saved one."""
        self._services = services
        self._sampling = sampling
        self._best = best
        self._totals = totals
        self._state = state
        self._writing: asyncio.Task[None] | None = None
        self._report: asyncio.Future[CheckpointWritten] | None = None
        self._expected = version
        self._taken = (0.0, 0.0)
        self.version = version
        """The newest version that is saved, or is being written."""
        self.committed = version
        """The newest version that is saved."""
        self.saved_at = time.monotonic()
        """When that version was copied, or this attempt of the run began."""

    async def save(self, version: int, *, failed: bool = False) -> None:
        """Copy the policy's state, which is at `version`, and begin to write it as a checkpoint.

        failed: the run has failed. Earlier checkpoints may have failed with it, and the version need not be verified: a
        resume verifies the weights that it begins with.
        """
        began = time.monotonic()
        if not failed:
            if self._writing is not None and not self._writing.done():
                text = f"the checkpoint of version {version} waits until that of version {self.version} is written"
                self._services.log("info", f"{text}: they are due faster than the disk takes them")
            await self.finish()
        what = f"the checkpoint of version {version}"
        with self._services.progress.waiting(f"run waits for the copy for {what}"), writing(what):
            path = await asyncio.to_thread(checkpoint.begin, self._services.run_dir, version)
            self._report, self._expected = asyncio.get_running_loop().create_future(), version
            command = SaveCheckpoint(str(path / POLICY_PART), version, self._services.patience)
            await self._services.ask(POLICY, command, Ok, f"copies its state for {what}")
        saved, states = self._state(version), await self._hook_states(failed=failed)
        written = self._write(path, saved, states, self._report, failed=failed)
        self._writing = self._services.failure.spawn(written, f"write {what}")
        self.version, self.saved_at = version, time.monotonic()
        self._totals.checkpoint_blocked_seconds += self.saved_at - began

    def written(self, message: CheckpointWritten) -> None:
        """Take the policy's report on the checkpoint that is being written."""
        if self._report is not None and not self._report.done() and message.step == self._expected:
            self._report.set_result(message)

    async def finish(self) -> None:
        """Wait until no checkpoint is being written. Raises RunError if one could not be."""
        if self._writing is None:
            return
        if not self._writing.done():
            wait = f"run waits until the checkpoint of version {self.version} is written"
            with self._services.progress.waiting(wait):
                await asyncio.wait({self._writing})
        self._writing.result()

    async def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Wait at most `seconds` for the checkpoint that is being written: the run has failed."""
        if self._writing is not None and not self._writing.done():
            text = f"the checkpoint of version {self.version} is still being written"
            self._services.log("info", f"{text}; waiting for it, at most {seconds:g} s")
            await asyncio.wait({self._writing}, timeout=seconds)
            if not self._writing.done():
                self._services.log("warning", f"{text} after {seconds:g} s: it is given up")
        if self._report is not None and not self._report.done():
            # This side has given up the checkpoint, and the policy still writes its part.
            await asyncio.wait({self._report}, timeout=seconds)

    async def finish_commit(self) -> None:
        """Wait for a checkpoint whose files the policy has written, for a limited time: the policy has died."""
        if self._writing is not None and self._report is not None and self._report.done():
            await asyncio.wait({self._writing}, timeout=SETTLE_SECONDS)

    async def prune(self) -> None:
        """Remove the checkpoints that need not be kept."""
        keep, run_dir = self._services.config.checkpoint.keep, self._services.run_dir
        with writing("checkpoints"):
            await asyncio.to_thread(checkpoint.prune, run_dir, keep=keep, spare=self._best.spared)

    def take_metrics(self) -> dict[str, float]:
        """Return the seconds that training stopped for checkpoints, and that writing took, since the last call."""
        blocked, written = self._taken
        self._taken = (self._totals.checkpoint_blocked_seconds, self._totals.checkpoint_write_seconds)
        return {"time/checkpoint_blocked": self._taken[0] - blocked, "time/checkpoint_write": self._taken[1] - written}

    async def _hook_states(self, *, failed: bool) -> dict[str, HookState]:
        """Return the states of the hooks plugins that have one; of a run that has failed, those that can be had."""
        owners, hooks = self._services.plugin_hooks.implementing("rlx_checkpoint_state"), self._services.hooks
        try:
            found = await hooks.call_each("rlx_checkpoint_state", {name: {} for name in owners}, at_end=failed)
        except HookError as error:
            if not failed:
                raise
            self._services.log("warning", f"the checkpoint is saved without the states of hooks plugins: {error}")
            return {}
        return {name: HookState(owners[name], state) for name, state in found.items()}

    async def _write(
        self,
        path: Path,
        saved: SavedState,
        states: Mapping[str, HookState],
        report: asyncio.Future[CheckpointWritten],
        *,
        failed: bool,
    ) -> None:
        """Commit the checkpoint once everything that it stands for is on disk. `failed`: see `save`."""
        what, patience = f"the checkpoint of version {saved.version}", self._services.patience
        with self._services.progress.waiting(f"policy writes {what}"):
            await (self._sampling.settle() if failed else self._sampling.flush())
            try:
                found = await asyncio.wait_for(report, patience + _REPORT_SECONDS)
            except TimeoutError as error:
                raise WaitTimeout(f"the policy did not write {what} within {patience:g} s") from error
            if found.error:
                raise RunError(f"{what} cannot be written: {found.error}")
            with writing(what):
                final = await asyncio.to_thread(checkpoint.commit, path, saved, found.files, states)
            self.committed = saved.version
            self._totals.checkpoint_write_seconds += found.seconds
            await self.prune()
        self._sampling.checkpointed(saved.version)
        hooks = self._services.hooks
        await (hooks.call_at_end if failed else hooks.call)("rlx_checkpoint_saved", path=final, step=saved.version)
