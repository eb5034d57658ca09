"""A run: its training mode and its loop once it has begun, and its status and summary at any time."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from msgspec import structs

from rlx.boot import Boot
from rlx.controller.build import build_rl, build_sft
from rlx.controller.health.members import Members
from rlx.controller.health.policy_restarts import PolicyRestarts
from rlx.controller.health.restarts import Restarts
from rlx.controller.loop import Loop
from rlx.controller.modes.mode import NoSampling, Sampling, TrainingMode
from rlx.controller.records import checkpoint
from rlx.controller.records.best import Best
from rlx.controller.records.checkpoint import SavedState
from rlx.controller.records.summary import RunResult, Totals, summarise
from rlx.controller.records.trajectories import remove_undone
from rlx.controller.runtime.failure import together
from rlx.controller.runtime.services import Services
from rlx.controller.state import StateMachine
from rlx.errors import RlxError, RunError
from rlx.files import writing
from rlx.names import POLICY, TRAJECTORIES
from rlx.transport.messages import CheckpointWritten, Status, WentBack

log = logging.getLogger(__name__)


class Run:
    """One run. `begin` builds its mode and its loop; most other methods may also be called before that."""

    def __init__(self, services: Services, boot: Boot, members: Members, state: StateMachine) -> None:
        self._services = services
        self._boot = boot
        self._members = members
        self._state = state
        self._totals = Totals()
        self._loop: Loop | None = None
        self._restarts = Restarts(services)
        self._policy = PolicyRestarts(services, members, self._step)
        self._resume_from = None if boot.resume_from is None else services.run_dir / boot.resume_from
        self.sampling: Sampling = NoSampling()
        self.reason = ""
        """Why the run was stopped early; empty if it was not."""

    @property
    def policy_restarts(self) -> PolicyRestarts:
        """The attempts of the policy."""
        return self._policy

    async def train(self) -> str:
        """Run to the end and return the status, `done` or `stopped`. All members must be ready.

        If the policy dies, the run goes back to its newest checkpoint, as often as the policy may be restarted.
        """
        loop = self._begin(self._load_checkpoint())
        await self._restore_hooks()
        while (status := await self._policy.unless_it_dies(loop.run())) is None:
            loop = self._begin(await self._go_back(loop))
            await self._restore_hooks()
        self.reason = loop.reason
        return status

    async def _go_back(self, loop: Loop) -> SavedState:
        """End the training of `loop`, undo what came after the newest checkpoint, and start the policy from there.

        Replicas stay up, and the files of the run are those of a resume. Returns the state to continue from.
        """
        run_dir = self._services.run_dir
        await loop.saving.finish_commit()
        await self._services.failure.cancel_training()
        await self.sampling.close()
        found = await asyncio.to_thread(checkpoint.newest_sound, run_dir, self._report_damaged)
        saved = checkpoint.load(found) if found is not None else loop.state_at_start()
        saved = structs.replace(saved, seconds=loop.seconds)
        with writing("checkpoints"):
            await asyncio.to_thread(checkpoint.set_aside_newer, run_dir, saved.version)
        evaluated = [int(evaluation["step"]) for evaluation in saved.evaluations]
        with writing("trajectories"):
            await asyncio.to_thread(remove_undone, run_dir / TRAJECTORIES, saved.version, evaluated)
        self._services.notify_launcher(WentBack(saved.version, evaluated))
        self._services.log("warning", f"training goes back to step {saved.version}; it was at step {loop.version}")
        await together([self.sampling.drop_groups(), self._policy.start(found)])
        self._resume_from = found
        self._restore_totals(saved)
        return saved

    def _restore_totals(self, saved: SavedState) -> None:
        self._totals.evaluations = list(saved.evaluations)
        self._totals.evaluations_skipped = saved.evaluations_skipped

    def _report_damaged(self, path: Path, problems: list[str]) -> None:
        log.warning("%s is damaged and is skipped: %s", path, "; ".join(problems))

    def _step(self) -> int | None:
        """Return the step that the run is at; None while it cannot go back to a checkpoint."""
        return None if self._loop is None or self._state.ending else self._loop.version

    def _begin(self, saved: SavedState | None) -> Loop:
        """Build the mode and the loop.

        Raises RunError if `saved` does not fit the policy, the datasets or the config.
        """
        version, earlier_seconds = (saved.version, saved.seconds) if saved else (0, 0.0)
        policy = self._members.policy
        assert policy is not None
        if policy.step != version:
            raise RunError(f"the policy is at step {policy.step}, and the checkpoint at step {version}")
        mode: TrainingMode
        if self._boot.rollouts:
            mode = build_rl(self._services, self._members, self._restarts, saved, self._totals)
        else:
            mode = build_sft(self._services, self._members, saved)
        self.sampling = mode.sampling
        self._loop = Loop(
            self._services, mode, self._state, self._totals, version=version, earlier_seconds=earlier_seconds
        )
        return self._loop

    async def rescue(self) -> str:
        """Save what was trained, after a failure that leaves the policy whole.

        Returns what to add to the error of the run: why that failed, or "".
        """
        policy = self._services.policy
        if self._loop is None:
            return ""
        if policy.lost:
            # The policy may still be writing a checkpoint of an earlier step.
            if all(exited.name != POLICY for exited in self._members.exits):
                await self._loop.saving.settle()
            return ""
        saving = asyncio.create_task(self._loop.rescue())
        losing = asyncio.create_task(policy.wait_until_lost())
        seconds = self._services.patience
        try:
            await asyncio.wait({saving, losing}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not saving.done():
                why = "the policy has failed, too" if losing.done() else f"not done within {seconds:g} s"
                return f"\nAfter that, step {self._loop.version} was not saved: {why}."
            if (error := saving.exception()) is not None:
                log.error("what was trained could not be saved", exc_info=error)
                return f"\nAfter that: {error}"
            return ""
        finally:
            for task in (saving, losing):
                task.cancel()
            await asyncio.gather(saving, losing, return_exceptions=True)

    async def _restore_hooks(self) -> None:
        """Give hooks plugins back the states that they have in the checkpoint that the run continues from."""
        if self._resume_from is None:
            return
        states = checkpoint.hook_states(self._resume_from)
        enabled = self._services.plugin_hooks.implementing("rlx_restore_state")
        for name, saved in states.items():
            if name not in enabled:
                self._services.log("warning", f"{saved.owner} is not enabled any more: its state is left out")
        restored = {name: {"state": states[name].state} for name in enabled if name in states}
        await self._services.hooks.call_each("rlx_restore_state", restored)

    def drain(self, reason: str) -> None:
        """Stop the run after the current step, or at once if it has not begun."""
        self.reason = reason
        if self._loop is not None:
            self._services.log("info", f"draining: {reason}. The current step is finished and saved.")
            self._loop.drain(reason)
        else:
            self._services.log("info", f"stopping: {reason}. The run has not begun.")
            self._state.drain()
            self._members.stop_waiting()

    def save_now(self, reason: str) -> None:
        """Save a checkpoint after the current step, if the run has begun."""
        if self._loop is None:
            self._services.log("info", f"nothing to save: {reason}. The run has not begun.")
        else:
            self._services.log("info", f"saving: {reason}. A checkpoint follows the current step, and the run goes on.")
            self._loop.save_requested = True

    def checkpoint_written(self, message: CheckpointWritten) -> None:
        """Take the policy's report on a checkpoint."""
        if self._loop is not None:
            self._loop.saving.written(message)

    def describe(self) -> str:
        """Return what the run waits for, and the groups that are leased."""
        return "; ".join(part for part in (self._services.progress.current, self.sampling.describe()) if part)

    def status(self) -> Status:
        """Return the status that the launcher displays."""
        config, progress = self._services.config.run, self._services.progress
        waiting = self.describe() if progress.idle_seconds >= config.stall_seconds else progress.current
        if self._loop is None:
            steps = self._steps_before()
            return Status(self._state.state, steps, config.steps, 0.0, waiting, {}, self._members.activities())
        loop = self._loop
        return Status(self._state.state, loop.version, config.steps, loop.seconds, waiting, loop.metrics)

    def summary(self, status: str) -> dict[str, object]:
        """Return the content of summary.json."""
        config = self._services.config
        steps = self._loop.version if self._loop else self._steps_before()
        try:
            lost = self.sampling.lost()
        except RlxError as error:
            # The run has usually failed for the same reason already.
            log.error("the groups in the ledger could not be counted: %s", error)  # noqa: TRY400
            lost = None
        result = RunResult(
            status,
            self._services.run_dir,
            reason=self.reason,
            steps=steps,
            seconds=self._loop.seconds if self._loop else 0.0,
            trained=steps * config.policy.groups_per_step if self._boot.rollouts else 0,
            counts=self.sampling.counts,
            lost=lost,
            best=Best(config.checkpoint.best, self._totals.evaluations).entry(self._services.run_dir),
            timings=self._services.timings.total,
            hooks_failed=self._services.hook_failures.total,
            policy_restarts=self._policy.count,
        )
        return summarise(result, self._totals)

    def _steps_before(self) -> int:
        """Return the steps that were done before this attempt of the run."""
        return 0 if self._boot.resume_from is None else checkpoint.version_of(Path(self._boot.resume_from))

    def _load_checkpoint(self) -> SavedState | None:
        if self._resume_from is None:
            return None
        for path in checkpoint.torn(self._services.run_dir):
            self._services.log("warning", f"{path} was torn by a crash and is skipped")
        saved = checkpoint.load(self._resume_from)
        self._restore_totals(saved)
        self._totals.logprob_diff_max = saved.logprob_diff_max
        return saved
