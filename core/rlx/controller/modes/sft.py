"""Learning from rows: the policy reads the dataset itself, the controller says which rows."""

from __future__ import annotations

from rlx.controller.context import Context
from rlx.controller.records.metrics import Trained
from rlx.datasets.order import Cursor
from rlx.fingerprint import Fingerprint, Fingerprints
from rlx.names import POLICY
from rlx.transport.messages import EvalRows, Measured, StepDone, TrainStep


class SFTMode:
    """The `Work` of SFT. Step s trains the rows at positions s * G ... (s + 1) * G - 1, so there is nothing to
    remember.
    """

    def __init__(self, context: Context, data: Fingerprints, cursor: Cursor) -> None:
        self._context = context
        self._cursor = cursor
        self._fingerprint = data.train
        self._eval_rows = _eval_rows(context, data.held_out)

    @property
    def next_group_id(self) -> int:
        return 0

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    @property
    def dropped(self) -> int:
        return 0

    @property
    def uninformative(self) -> int:
        return 0

    @property
    def restarts(self) -> int:
        return 0

    def generate_seconds(self) -> float:
        return 0.0

    def describe(self) -> str:
        return ""

    def stop_after(self, steps: int) -> None:
        """Nothing is ever begun ahead."""

    async def open(self, version: int) -> None:
        """There is nobody to open anything with."""

    async def train(self, step: int) -> Trained:
        count = self._context.config.policy.groups_per_step
        rows = self._cursor.rows(step * count, count)
        with self._context.progress.waiting(f"policy trains step {step}"):
            done = await self._context.ask(POLICY, TrainStep(step, rows=rows), StepDone, f"trains step {step}")
        return Trained(
            metrics={**done.metrics, "epoch": (step + 1) * count / self._cursor.epoch_rows},
            wait_seconds=0.0,
            train_seconds=done.seconds,
            generated_tokens=0,
            trained_tokens=done.metrics["tokens/trained"],
        )

    async def publish(self, version: int) -> None:
        """Nobody samples with the weights."""

    async def evaluate(self, version: int) -> dict[str, float]:
        what = f"computes the evaluation loss of version {version}"
        with self._context.progress.waiting(f"policy {what}"):
            measured = await self._context.ask(POLICY, EvalRows(self._eval_rows), Measured, what)
        return dict(measured.metrics)

    async def settle(self) -> None:
        """Nothing is written behind the policy's back."""

    def covered(self, version: int) -> None:
        """No payload waits for a checkpoint."""

    async def close(self) -> None:
        """Nothing is open."""

    def lost(self) -> int:
        return 0

    def sync_metrics(self) -> dict[str, float]:
        return {}


def _eval_rows(context: Context, rows: Fingerprint | None) -> list[int]:
    config = context.config.eval
    if config is None:
        return []
    assert rows is not None
    return list(range(min(config.limit or rows.size, rows.size)))
