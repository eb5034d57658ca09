"""SFT: the policy reads the dataset itself, and the controller chooses the rows of each step."""

from __future__ import annotations

from rlx.controller.modes.mode import NoSampling
from rlx.controller.records.metrics import TrainedStep
from rlx.controller.runtime.services import Services
from rlx.datasets.order import RowOrder
from rlx.fingerprint import Fingerprints
from rlx.names import POLICY
from rlx.transport.messages import EvalRows, Measured, StepDone, TrainStep


class SFTMode:
    """The `TrainingMode` of SFT.

    Step s trains rows s * G .. (s + 1) * G - 1 of the row order, with G = `policy.groups_per_step`: it keeps no state.
    """

    def __init__(self, services: Services, data: Fingerprints, order: RowOrder) -> None:
        self._services = services
        self._order = order
        self.fingerprint = data.train
        self.sampling = NoSampling()
        self._eval_rows: list[int] = []
        if services.config.eval is not None:
            assert data.held_out is not None
            size = data.held_out.size
            self._eval_rows = list(range(min(services.config.eval.limit or size, size)))

    async def train(self, step: int) -> TrainedStep:
        """Train one step on its rows."""
        count = self._services.config.policy.groups_per_step
        rows = self._order.rows(step * count, count)
        with self._services.progress.waiting(f"policy trains step {step}"):
            done = await self._services.ask(POLICY, TrainStep(step, rows=rows), StepDone, f"trains step {step}")
        return TrainedStep(
            metrics={**done.metrics, "epoch": (step + 1) * count / self._order.epoch_rows},
            wait_seconds=0.0,
            train_seconds=done.seconds,
            generated_tokens=0,
            trained_tokens=done.metrics["tokens/trained"],
        )

    async def evaluate(self, version: int) -> dict[str, float]:
        """Return the loss on the evaluation rows."""
        what = f"computes the evaluation loss of version {version}"
        with self._services.progress.waiting(f"policy {what}"):
            measured = await self._services.ask(POLICY, EvalRows(self._eval_rows), Measured, what)
        return dict(measured.metrics)
