"""The loop of a run: steps, evaluations, checkpoints and the export, the same for every training mode.

Rules:

* Version v is made by v optimizer steps. Each version is published, then evaluated if that is due, then checkpointed
  if that is due or if it is the best so far (saving.py).
* If training continues during an evaluation, the evaluated version may turn out to be the best: it is saved at once,
  and its checkpoint is removed later if it is not the best.
* A run that fails while the policy is whole saves the version that the policy holds.
* At most one evaluation is out. Those that fall due meanwhile are skipped and counted, so an evaluation that is slower
  than `eval.every` steps is made as often as it can be, and with weights that are not older than they need be.
* A drain (signal) finishes the current step, saves, and ends with status "stopped". A stop hook ends the run as if its
  steps were complete.
"""

from __future__ import annotations

import asyncio
import copy
import shutil
import time

from rlx.config.changes import dump
from rlx.controller.modes.mode import TrainingMode
from rlx.controller.records import checkpoint
from rlx.controller.records.best import Best, is_of_one_version
from rlx.controller.records.checkpoint import SavedState
from rlx.controller.records.metrics import TrainedStep, dropped_rows, hook_failure_metrics, ratio, timing_metrics
from rlx.controller.records.summary import Totals
from rlx.controller.runtime.services import Services
from rlx.controller.saving import Saving
from rlx.controller.state import RunState, StateMachine
from rlx.errors import RunError, WaitTimeout
from rlx.files import writing
from rlx.names import EXPORT, POLICY
from rlx.transport.messages import Export, Ok, StepMetrics

LEAST_SETTLE_SECONDS = 10.0
"""How long a run that has failed waits at least for the step that the policy is training; else twice the last one."""


class Loop:
    """Trains, evaluates and saves, from the first version of a run to its end."""

    def __init__(
        self,
        services: Services,
        mode: TrainingMode,
        state: StateMachine,
        totals: Totals,
        *,
        version: int,
        earlier_seconds: float,
    ) -> None:
        """`version`: the first one; `earlier_seconds`: run time of earlier attempts of this run."""
        self._services = services
        self._config = services.config
        self._mode = mode
        self._sampling = mode.sampling
        self._state = state
        self._totals = totals
        self._started = time.monotonic() - earlier_seconds
        self._evaluation: asyncio.Task[None] | None = None
        self._evaluated_version = version
        """The version that `_evaluation` evaluates, or has evaluated."""
        self._skipped_version: int | None = None
        """The last version whose evaluation was skipped."""
        self._best = Best(self._config.checkpoint.best, totals.evaluations)
        self.saving = Saving(services, mode.sampling, self._best, totals, self._saved_state, version=version)
        self._reported = version
        self._counts = copy.deepcopy(self._sampling.counts)
        """Counts at the end of the last step."""
        self._generated_until = 0.0
        """`Sampling.generate_seconds` at the end of the last step."""
        self._failed = False
        self._stop_requested = False
        self.save_requested = False
        """Whether a checkpoint follows the current step, whatever the schedule."""
        self._trains_during_evaluation = bool(services.replicas) and self._config.asynchrony.max_staleness > 0
        self.version = version
        self.reason = ""
        self.metrics: dict[str, float] = {}
        """Metrics of the last step and the last evaluation, for the display."""

    @property
    def seconds(self) -> float:
        """Run time so far, all attempts together."""
        return time.monotonic() - self._started

    def state_at_start(self) -> SavedState:
        """Return the controller's part of a checkpoint of version 0, which needs no files."""
        return SavedState(
            version=0,
            next_group_id=0,
            untrained=[],
            groups_per_step=self._config.policy.groups_per_step,
            fingerprint=self._mode.fingerprint,
            dropped=0,
            seconds=0.0,
        )

    def drain(self, reason: str) -> None:
        """Make the current step the last one."""
        self.reason = self.reason or reason
        self._state.drain()
        self._sampling.stop_after(self.version + 1)

    async def run(self) -> str:
        """Run to the end and return the status, `done` or `stopped`."""
        await self._sampling.start(self.version)
        if self._state.state == RunState.STARTING:
            self._state.to(RunState.RUNNING)
        if self._config.eval is not None and not self._totals.has_evaluated(self.version):
            await self._evaluate(self.version)
        while self.version < self._config.run.steps and not self._state.ending:
            await self._step()
            await self._after_step()
        complete = self._stop_requested or self.version >= self._config.run.steps
        self._state.drain()
        await self._end(complete=complete)
        return "done" if complete else "stopped"

    async def _step(self) -> None:
        """Train one step, publish its version, report the metrics, and ask the hooks whether to stop."""
        step, began, generated_before = self.version, time.monotonic(), self._sampling.generate_seconds()
        trained = await self._mode.train(step)
        self._made(step + 1)
        sync_metrics = await self._sampling.publish(self.version)
        # In this order: the engines' interval is within the step's, so that their share of it is at most 1.
        generated = self._sampling.generate_seconds()
        seconds, generate_seconds = time.monotonic() - began, generated - generated_before
        # With staleness, the tokens were sampled since the last step, some of them before this one began.
        sampled_in = generated - self._generated_until if self._trains_during_evaluation else generate_seconds
        self._generated_until = generated
        step_metrics = self._step_metrics(trained, seconds, generate_seconds, sampled_in)
        metrics = {**trained.metrics, **sync_metrics, **step_metrics}
        self._totals.add_step(seconds, generate_seconds, trained)
        await self._services.hooks.call("rlx_step_end", step=step, metrics=metrics)
        self._report(step, metrics, "train")
        answer = await self._services.hooks.call("rlx_should_stop", step=step, metrics=metrics)
        if answer:
            self._stop_requested = True
            self.drain(answer if isinstance(answer, str) else "a hook asked to stop")

    def _made(self, version: int) -> None:
        """Record that the policy has made `version`."""
        self.version = version
        self._counts = copy.deepcopy(self._sampling.counts)

    def _step_metrics(
        self, trained: TrainedStep, seconds: float, generate_seconds: float, sampled_in: float
    ) -> dict[str, float]:
        """`sampled_in`: busy seconds of the engines in which the step's new tokens were sampled."""
        metrics = {
            **timing_metrics(self._services.timings.take()),
            **hook_failure_metrics(self._services.hook_failures.take()),
            **self.saving.take_metrics(),
            "time/step": seconds,
            "time/train": trained.train_seconds,
            "time/train_busy": ratio(trained.train_seconds, seconds),
            "tokens/trained_per_s": ratio(trained.trained_tokens, trained.train_seconds),
        }
        counts = self._sampling.counts
        metrics |= {name: float(count) for name, count in dropped_rows(counts.bad_rows).items()}
        if not self._services.replicas:
            return metrics
        return metrics | {
            "time/wait": trained.wait_seconds,
            "time/generate": generate_seconds,
            "time/generate_busy": ratio(generate_seconds, seconds),
            "tokens/generated_per_s": ratio(trained.generated_tokens, sampled_in),
            "groups/trained": float(self.version * self._config.policy.groups_per_step),
            "groups/dropped": float(counts.dropped),
            "groups/uninformative": float(counts.uninformative),
            **({} if self._config.eval is None else {"eval/skipped": float(self._totals.evaluations_skipped)}),
        }

    def _report(self, step: int, metrics: dict[str, float], kind: str) -> None:
        self.metrics = self.metrics | metrics
        if kind == "train":
            self._reported = step + 1
        self._services.notify_launcher(StepMetrics(step, metrics, kind))

    async def _after_step(self) -> None:
        """Evaluate and checkpoint the new version if that is due."""
        evaluation = self._config.eval
        if evaluation is not None and evaluation.every is not None and self.version % evaluation.every == 0:
            await self._evaluation_due()
        if self._checkpoint_due():
            self.save_requested = False
            await self._save()

    def _checkpoint_due(self) -> bool:
        """Whether the version of the last step is to be saved: by steps, by time, by request, or as the best one."""
        every, seconds = self._config.checkpoint.every, self._config.checkpoint.every_seconds
        by_steps = every is not None and self.version % every == 0
        by_time = seconds is not None and time.monotonic() - self.saving.saved_at >= seconds
        return by_steps or by_time or self.save_requested or self.version in self._best.spared

    async def _evaluation_due(self) -> None:
        """Evaluate the new version, or skip that if another evaluation is out."""
        if self._evaluating:
            # The last version is evaluated at the end of the run in any case.
            if self.version < self._config.run.steps and not self._state.ending:
                self._totals.evaluations_skipped += 1
                self._skipped_version = self.version
            return
        self._best.evaluation_started(self.version)
        self._evaluated_version = self.version
        self._evaluation = self._services.failure.spawn(self._evaluate(self.version), "evaluation")
        if not self._trains_during_evaluation:
            await self._evaluation

    @property
    def _evaluating(self) -> bool:
        return self._evaluation is not None and not self._evaluation.done()

    async def _evaluate(self, version: int) -> None:
        metrics = await self._mode.evaluate(version)
        await self._services.hooks.call("rlx_evaluated", step=version, metrics=metrics)
        self._totals.evaluations.append({"step": float(version), **metrics})
        self._best.evaluation_ended(version, metrics)
        if self._config.checkpoint.best is not None and not is_of_one_version(self._totals.evaluations[-1]):
            first, last = metrics["eval/version_min"], metrics["eval/version_max"]
            used = f"versions {first:.0f} to {last:.0f}" if first < last else f"version {first:.0f}"
            what = f"the evaluation that was due at version {version} was sampled with the weights of {used}"
            self._services.log("warning", f"{what}, so [checkpoint.best] does not compare it")
        self._report(version, metrics, "eval")

    async def _end(self, *, complete: bool) -> None:
        """Wait for the evaluation in progress, or cancel it if the run was stopped; then evaluate, save and export."""
        if (evaluation := self._evaluation) is not None:
            if not complete:
                self._totals.evaluations_skipped = self._skipped_before(self.version)
                evaluation.cancel()
            await asyncio.wait({evaluation})
            if not evaluation.cancelled():
                evaluation.result()
            self._best.evaluations_stopped()
        if complete and self._config.eval is not None and not self._totals.has_evaluated(self.version):
            await self._evaluate(self.version)
        await self._sampling.flush()
        if self.version > self.saving.version:
            await self._save()
        await self.saving.finish()
        await self.saving.prune()
        if complete and self._config.checkpoint.export:
            await self._export()

    async def rescue(self) -> None:
        """Save the version that the policy holds, after a failure that leaves the policy whole.

        Raises WaitTimeout if the policy does not finish the step that it is training in time, and like a checkpoint.
        """
        if self.version > self.saving.committed:  # else the step that is being trained is all that is lost
            await self._settle_step()
        await self.saving.settle(self._services.patience)
        if self.version > self.saving.committed:
            self._services.log("info", f"the run has failed; step {self.version} is saved before it ends")
            self._failed = True
            await self.saving.save(self.version, failed=True)
            await self.saving.finish()

    async def _settle_step(self) -> None:
        """Wait for the step that the policy is training, and count and report it."""
        last = self._mode.last
        usual = last[1].train_seconds if last is not None else 0.0
        limit = min(self._config.run.stall_seconds, max(LEAST_SETTLE_SECONDS, 2 * usual))
        with self._services.progress.waiting("failed run waits until the policy has finished its step"):
            if not await self._services.failure.settle(limit):
                raise WaitTimeout(
                    f"step {self.version} was not saved: the policy did not finish the next one within {limit:g} s"
                )
        if (last := self._mode.last) is None:
            return
        if last[0] >= self.version:
            self._made(last[0] + 1)
        if self._reported < self.version:
            self._report(last[0], last[1].metrics, "train")

    async def _save(self) -> None:
        """Begin to save the current version."""
        await self._services.failure.uncancelled(self.saving.save(self.version), f"save version {self.version}")

    def _saved_state(self, version: int) -> SavedState:
        """Return the controller's part of a checkpoint of `version`, as of now.

        A synchronous run that has failed begins its unfinished step anew after a resume: it repeats bit for bit only if
        the step's groups are sampled together.
        """
        begins_anew = self._failed and self._config.asynchrony.max_staleness == 0
        counts = self._counts if begins_anew else self._sampling.counts
        return SavedState(
            version=version,
            next_group_id=counts.next_group_id,
            untrained=counts.untrained,
            groups_per_step=self._config.policy.groups_per_step,
            fingerprint=self._mode.fingerprint,
            dropped=counts.dropped,
            uninformative=counts.uninformative,
            bad_rows=dict(counts.bad_rows),
            named_rows=list(counts.named_rows),
            seconds=self.seconds,
            evaluations=list(self._totals.evaluations),
            evaluations_skipped=self._skipped_before(version),
            logprob_diff_max=self._totals.logprob_diff_max,
            config=dump(self._config),
        )

    def _skipped_before(self, version: int) -> int:
        """Return how many evaluations are skipped if the run is resumed from `version`, which it evaluates first."""
        lost = self._evaluating and self._evaluated_version < version
        return self._totals.evaluations_skipped - (self._skipped_version == version) + lost

    async def _export(self) -> None:
        """Export the policy; if a version before the last is the best, the policy loads that checkpoint first."""
        path, best, source = self._services.run_dir / EXPORT, self._best.version, None
        if best is not None and best != self.version:
            saved = checkpoint.path_of(self._services.run_dir, best)
            if problems := await asyncio.to_thread(checkpoint.verify_checkpoint, saved):
                raise RunError(
                    f"the best version can't be exported, since its checkpoint {saved} is damaged: "
                    f"{'; '.join(problems)}. The last version is saved: `rlx export` writes it."
                )
            source = str(saved / "policy")
        unfinished = path.with_suffix(".tmp")
        with self._services.progress.waiting("run waits for the export of the policy"):
            await asyncio.to_thread(shutil.rmtree, unfinished, ignore_errors=True)
            await self._services.ask(POLICY, Export(str(unfinished), source), Ok, f"exports the policy to {unfinished}")
            with writing(f"the export {path}"):
                # A resumed run exports again, replacing the export of its last attempt.
                await asyncio.to_thread(checkpoint.replace_folder, unfinished, path)
