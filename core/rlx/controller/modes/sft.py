"""SFT: the policy reads the dataset itself, and the controller chooses the rows of each step."""

from __future__ import annotations

from collections.abc import Mapping

from rlx.controller.modes.mode import NoSampling
from rlx.controller.records.bad_rows import BadRows, most_in_row
from rlx.controller.records.checkpoint import SavedState
from rlx.controller.records.metrics import TrainedStep
from rlx.controller.records.summary import GroupCounts
from rlx.controller.runtime.services import Services
from rlx.datasets.order import RowOrder
from rlx.fingerprint import Fingerprints
from rlx.names import POLICY
from rlx.transport.messages import BadRow, EvalRows, Measured, RowsRefused, StepDone, TrainStep


class SFTMode:
    """The `TrainingMode` of SFT.

    A step trains the next G = `policy.groups_per_step` rows of the row order. In place of a row that can't be used, it
    trains the one after the last; such a row is not asked for again in later epochs. The next position in the order is
    all of its state.
    """

    def __init__(self, services: Services, data: Fingerprints, order: RowOrder) -> None:
        self._services = services
        self._order = order
        self._position = 0
        self._known: dict[int, BadRow] = {}
        self._bad_rows = BadRows(
            "dataset", services.log, most_in_row(services.config.policy.groups_per_step, order.epoch_rows)
        )
        self._bad_eval_rows = BadRows("eval.dataset", services.log)
        self.fingerprint = data.train
        self.sampling = NoSampling()
        self.last: tuple[int, TrainedStep] | None = None
        self._eval_rows: list[int] = []
        if services.config.eval is not None:
            assert data.held_out is not None
            size = data.held_out.size
            self._eval_rows = list(range(min(services.config.eval.limit or size, size)))

    def restore(self, saved: SavedState) -> None:
        """Continue from a checkpoint."""
        # Checkpoints of earlier versions of rlx, which dropped no rows, have 0 for the position.
        self._position = max(saved.next_group_id, saved.version * saved.groups_per_step)
        self._bad_rows.restore(saved.bad_rows, saved.named_rows)
        self._bad_eval_rows.restore({}, saved.named_rows)
        self._count()

    async def train(self, step: int) -> TrainedStep:
        """Train one step on its rows. Raises RunError if too many rows in a row can't be used."""
        return await self._services.failure.uncancelled(self._train(step), f"train step {step}")

    async def _train(self, step: int) -> TrainedStep:
        count = self._services.config.policy.groups_per_step
        rows: list[int] = []
        while True:
            added = self._next_rows(count - len(rows))
            with self._services.progress.waiting(f"policy trains step {step}"):
                message = TrainStep(step, rows=rows + added)
                done = await self._services.ask(POLICY, message, (StepDone, RowsRefused), f"trains step {step}")
            refused = {bad.row: bad for bad in done.rows} if isinstance(done, RowsRefused) else {}
            self._known |= refused
            rows += self._usable(added, refused)
            if isinstance(done, StepDone):
                break
        self._count()
        trained = TrainedStep(
            metrics={**done.metrics, "epoch": self._position / self._order.epoch_rows},
            wait_seconds=0.0,
            train_seconds=done.seconds,
            generated_tokens=0,
            trained_tokens=done.metrics["tokens/trained"],
        )
        self.last = (step, trained)
        return trained

    async def evaluate(self, version: int) -> dict[str, float]:
        """Return the loss on the evaluation rows."""
        what = f"computes the evaluation loss of version {version}"
        with self._services.progress.waiting(f"policy {what}"):
            measured = await self._services.ask(POLICY, EvalRows(self._eval_rows), Measured, what)
        for bad in measured.bad_rows:
            self._bad_eval_rows.drop(bad.row, bad.reason, bad.why)
        self._count()
        return dict(measured.metrics)

    def _next_rows(self, count: int) -> list[int]:
        """Return the next `count` rows of the order that are not known to be bad."""
        rows: list[int] = []
        while len(rows) < count:
            row = self._order.row(self._position)
            self._position += 1
            rows += self._usable([row], self._known)
        return rows

    def _usable(self, rows: list[int], bad: Mapping[int, BadRow]) -> list[int]:
        """Return the rows that are not bad; count the others."""
        usable = []
        for row in rows:
            if row in bad:
                self._bad_rows.drop(row, bad[row].reason, bad[row].why)
            else:
                usable.append(row)
        return usable

    def _count(self) -> None:
        self.sampling.counts = GroupCounts(
            next_group_id=self._position,
            bad_rows=dict(self._bad_rows.counts),
            named_rows=[*self._bad_rows.named, *self._bad_eval_rows.named],
        )
