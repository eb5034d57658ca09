"""The run: steps, evaluations, checkpoints, and the end. The same for every way to learn, and for every ending.

Version v is made by v optimizer steps. At each version: publish it, evaluate if it is due, checkpoint if it is due or
if it is the best so far. Where training goes on meanwhile, a version that is being evaluated may become the best one:
it is saved at once, and removed later if it did not.
A drain (signal) finishes the step that is going on, saves, and ends with status "stopped"; a stop hook ends the run
as if its steps were done.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

from rlx.controller.context import Context
from rlx.controller.modes.mode import TrainingMode
from rlx.controller.records import checkpoint
from rlx.controller.records.best import Best
from rlx.controller.records.checkpoint import Saved
from rlx.controller.records.metrics import Trained, cost_metrics, rate
from rlx.controller.records.summary import Totals
from rlx.controller.state import State, StateMachine
from rlx.files import writing
from rlx.names import EXPORT, POLICY
from rlx.transport.messages import Export, Ok, SaveCheckpoint, StepMetrics


class Loop:
    """One run, from its first version to its end."""

    def __init__(
        self, context: Context, work: TrainingMode, state: StateMachine, totals: Totals, *, version: int, before: float
    ) -> None:
        self._context = context
        self._config = context.config
        self._work = work
        self._state = state
        self._totals = totals
        self._started = time.monotonic() - before
        self._evaluation: asyncio.Task[None] | None = None
        self._best = Best(self._config.checkpoint.best, totals.evaluations)
        self._saved_version = version
        self._stop_asked = False
        self._overlapped = bool(context.replicas) and self._config.asynchrony.max_staleness > 0
        self.version = version
        self.reason = ""
        self.metrics: dict[str, float] = {}
        """Of the last step and the last evaluation: what the display shows."""

    @property
    def seconds(self) -> float:
        """Run time so far, all attempts together."""
        return time.monotonic() - self._started

    def drain(self, reason: str) -> None:
        """The step that is going on is the last one."""
        self.reason = self.reason or reason
        self._state.drain()
        self._work.stop_after(self.version + 1)

    async def run(self) -> str:
        """Returns the status: `done` or `stopped`."""
        await self._work.open(self.version)
        if not self._state.ending:
            self._state.to(State.RUNNING)
        if self._config.eval is not None and not self._totals.evaluated(self.version):
            await self._evaluate(self.version)
        while self.version < self._config.run.steps and not self._state.ending:
            await self._step()
            await self._at_version()
        complete = self._stop_asked or self.version >= self._config.run.steps
        self._state.drain()
        await self._end(complete=complete)
        return "done" if complete else "stopped"

    async def _step(self) -> None:
        step, began, busy = self.version, time.monotonic(), self._work.generate_seconds()
        trained = await self._work.train(step)
        self.version = step + 1
        await self._work.publish(self.version)
        seconds, generated = time.monotonic() - began, self._work.generate_seconds() - busy
        metrics = self._step_metrics(trained, seconds, generated)
        self._totals.stepped(seconds, generated, trained)
        self._context.hooks.rlx_step_end(step=step, metrics=metrics)
        self._tell(step, metrics, "train")
        self._ask_to_stop(step, metrics)

    def _step_metrics(self, trained: Trained, seconds: float, generated: float) -> dict[str, float]:
        metrics = {
            **trained.metrics,
            **self._work.sync_metrics(),
            **cost_metrics(self._context.costs.take()),
            "time/step": seconds,
            "time/train": trained.train_seconds,
            "time/train_busy": rate(trained.train_seconds, seconds),
            "tokens/trained_per_s": rate(trained.trained_tokens, trained.train_seconds),
        }
        if not self._context.replicas:
            return metrics
        return metrics | {
            "time/wait": trained.wait_seconds,
            "time/generate": generated,
            "time/generate_busy": rate(generated, seconds),
            "tokens/generated_per_s": rate(trained.generated_tokens, generated),
            "groups/trained": float(self.version * self._config.policy.groups_per_step),
            "groups/dropped": float(self._work.dropped),
            "groups/uninformative": float(self._work.uninformative),
        }

    def _tell(self, step: int, metrics: dict[str, float], kind: str) -> None:
        self.metrics = self.metrics | metrics
        self._context.tell_launcher(StepMetrics(step, metrics, kind))

    def _ask_to_stop(self, step: int, metrics: dict[str, float]) -> None:
        answer = self._context.hooks.rlx_should_stop(step=step, metrics=metrics)
        if answer:
            self._stop_asked = True
            self.drain(answer if isinstance(answer, str) else "a hook asked to stop")

    async def _at_version(self) -> None:
        """What is due between two steps."""
        evaluation, every = self._config.eval, self._config.checkpoint.every
        if evaluation is not None and evaluation.every is not None and self.version % evaluation.every == 0:
            self._best.expect(self.version)
            task = self._context.failure.spawn(self._evaluate(self.version, self._evaluation), "evaluation")
            self._evaluation = task
            if not self._overlapped:
                await task
        if (every is not None and self.version % every == 0) or self.version in self._best.spared:
            await self._checkpoint()

    async def _evaluate(self, version: int, after: asyncio.Task[None] | None = None) -> None:
        if after is not None:
            await after
        metrics = await self._work.evaluate(version)
        self._context.hooks.rlx_evaluated(step=version, metrics=metrics)
        self._totals.evaluations.append({"step": float(version), **metrics})
        self._best.evaluated(version, metrics)
        self._tell(version, metrics, "eval")

    async def _end(self, *, complete: bool) -> None:
        if self._evaluation is not None:
            await self._finish_evaluation(self._evaluation, wanted=complete)
            self._best.expect_nothing()
        if complete and self._config.eval is not None and not self._totals.evaluated(self.version):
            await self._evaluate(self.version)
        await self._work.settle()
        if self.version > self._saved_version:
            await self._checkpoint()
        with writing("checkpoints"):
            await self._prune()
        if complete and self._config.checkpoint.export:
            await self._export()

    async def _finish_evaluation(self, task: asyncio.Task[None], *, wanted: bool) -> None:
        if not wanted:
            task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    async def _checkpoint(self) -> None:
        version = self.version
        with self._context.progress.waiting(f"run waits for the checkpoint of version {version}"):
            await self._work.settle()
            with writing(f"the checkpoint of version {version}"):
                path = await asyncio.to_thread(checkpoint.begin, self._context.run_dir, version)
            message = SaveCheckpoint(str(path / "policy"), version)
            await self._context.ask(POLICY, message, Ok, f"saves the checkpoint of version {version}")
            with writing(f"the checkpoint of version {version}"):
                final = await asyncio.to_thread(checkpoint.commit, path, self._saved())
                await self._prune()
        self._saved_version = version
        self._work.covered(version)
        self._context.hooks.rlx_checkpoint_saved(path=final, step=version)

    async def _prune(self) -> None:
        keep, run_dir = self._config.checkpoint.keep, self._context.run_dir
        await asyncio.to_thread(checkpoint.prune, run_dir, keep=keep, spare=self._best.spared)

    def _saved(self) -> Saved:
        return Saved(
            version=self.version,
            next_group_id=self._work.next_group_id,
            groups_per_step=self._config.policy.groups_per_step,
            fingerprint=self._work.fingerprint,
            dropped=self._work.dropped,
            uninformative=self._work.uninformative,
            seconds=self.seconds,
            evaluations=self._totals.evaluations,
            logprob_diff_max=self._totals.logprob_diff_max,
        )

    async def _export(self) -> None:
        path = self._context.run_dir / EXPORT
        unfinished = path.with_suffix(".tmp")
        with self._context.progress.waiting("run waits for the export of the policy"):
            await asyncio.to_thread(shutil.rmtree, unfinished, ignore_errors=True)
            message = Export(str(unfinished), self._export_from())
            await self._context.ask(POLICY, message, Ok, f"exports the policy to {unfinished}")
            with writing(f"the export {path}"):
                await asyncio.to_thread(_replace, unfinished, path)

    def _export_from(self) -> str | None:
        """The best checkpoint, where the policy has gone on since."""
        best = self._best.version
        if best is None or best == self.version:
            return None
        return str(checkpoint.path_of(self._context.run_dir, best) / "policy")


def _replace(unfinished: Path, path: Path) -> None:
    """A resumed run exports again, over what the run exported before."""
    if path.exists():
        shutil.rmtree(path)
    unfinished.rename(path)
