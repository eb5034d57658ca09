"""How the micro-batches of a step go through the policy: one after another, or through a pipeline of stages.

The rules of this part:

* Every rank comes to the outputs of every micro-batch that it shares; a gradient has only who computes the last stage.
* A pipeline is torch's: 1F1B where there is a backward. Its activations are of one shape, so the rows of a step are
  filled up to one length; what fills them is attended by nobody and predicts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from rlx.errors import ConfigError
from rlx.policy.packing.batch import MicroBatch, TokenOutputs

if TYPE_CHECKING:
    from rlx.policy.parallel.pipeline import Stage, StageBoundary

Loss = Callable[[int, TokenOutputs], Tensor]
"""The loss of a micro-batch, by its place among those of the step."""


class Schedule(Protocol):
    """`model`: computes a micro-batch, or a stage of it."""

    def learn(self, model: nn.Module, micro: Sequence[MicroBatch], loss: Loss) -> None:
        """Forward and backward of each. Every rank calls `loss` once for each."""

    def outputs(self, model: nn.Module, micro: Sequence[MicroBatch], temperature: float | None) -> list[TokenOutputs]:
        """Forward of each; call it where gradients are switched off."""


class Sequential:
    """Each micro-batch in turn."""

    def learn(self, model: nn.Module, micro: Sequence[MicroBatch], loss: Loss) -> None:
        for index, batch in enumerate(micro):
            loss(index, model(batch)).backward()  # type: ignore[no-untyped-call]

    def outputs(self, model: nn.Module, micro: Sequence[MicroBatch], temperature: float | None) -> list[TokenOutputs]:
        return [model(batch, temperature=temperature) for batch in micro]


@dataclass(frozen=True)
class Pipeline:
    """Stages, one of which is this rank's. seam: what hands hidden states to it. width: of the hidden states between
    stages. shared: ranks that split a row.
    """

    stage: Stage
    seam: StageBoundary
    width: int
    dtype: torch.dtype
    shared: int

    def learn(self, model: nn.Module, micro: Sequence[MicroBatch], loss: Loss) -> None:
        made: dict[int, TokenOutputs] = {}

        def compute(index: int, batch: MicroBatch) -> Tensor:
            if not self.stage.last:
                return self.seam.sent(model(batch))
            outputs = model(batch)
            made[index] = TokenOutputs(*(part.detach() for part in outputs))
            return loss(index, outputs).view(1)

        self._flow(micro, compute, learns=True)
        told = self._told(micro, made)
        if not self.stage.last:
            with torch.no_grad():
                for index, outputs in enumerate(told):
                    loss(index, outputs)

    def outputs(self, model: nn.Module, micro: Sequence[MicroBatch], temperature: float | None) -> list[TokenOutputs]:
        made: dict[int, TokenOutputs] = {}

        def compute(index: int, batch: MicroBatch) -> Tensor:
            if not self.stage.last:
                return self.seam.sent(model(batch))
            made[index] = model(batch, temperature=temperature)
            return torch.zeros(1, device=batch.tokens.device)

        self._flow(micro, compute, learns=False)
        return self._told(micro, made)

    def _flow(self, micro: Sequence[MicroBatch], compute: Callable[[int, MicroBatch], Tensor], *, learns: bool) -> None:
        length = max(batch.tokens.shape[1] for batch in micro)
        rows = [batch.filled(length) for batch in micro]
        device = rows[0].tokens.device
        indices = torch.arange(len(rows))
        # Made anew for each step, since rows are as long as its longest.
        stage = self._torch_stage(_Compute(compute, rows, self.seam), rows[0], device)
        if learns:
            # torch's 1F1B refuses fewer micro-batches than stages.
            kind = Schedule1F1B if len(rows) >= self.stage.count else ScheduleGPipe
            # Losses are shares of the step's loss already.
            schedule = kind(stage, len(rows), loss_fn=lambda loss, _index: loss.sum(), scale_grads=False)
            schedule.step(index=indices, target=indices if self.stage.last else None)
        else:
            ScheduleGPipe(stage, len(rows)).eval(index=indices)
        if self.stage.summed(self.seam.changed):
            raise ConfigError(
                f"[policy.parallel] does not fit the model: pp = {self.stage.count}, and it changes hidden states "
                "between its embedding, its layers and what follows them; stages hand them on as they are."
            )

    def _torch_stage(self, module: nn.Module, row: MicroBatch, device: torch.device) -> PipelineStage:
        rows, length = row.tokens.shape
        slots = length if row.layout is None else length // self.shared
        hidden = torch.empty(rows, slots, self.width, dtype=self.dtype, device="meta", requires_grad=True)
        ends = torch.empty(1, device="meta", requires_grad=True)
        return PipelineStage(
            module,
            self.stage.index,
            self.stage.count,
            device,
            input_args=() if self.stage.first else hidden,
            output_args=ends if self.stage.last else hidden,
            group=self.stage.mesh.get_group(),
        )

    def _told(self, micro: Sequence[MicroBatch], made: dict[int, TokenOutputs]) -> list[TokenOutputs]:
        """The last stage's outputs, on every stage."""
        last = self.stage.count - 1
        blank = [TokenOutputs(*(torch.empty_like(batch.advantages) for _ in range(2))) for batch in micro]
        known = [made.get(index, outputs) for index, outputs in enumerate(blank)]
        return [TokenOutputs(*(self.stage.tell(part.contiguous(), last) for part in outputs)) for outputs in known]


class _Compute(nn.Module):
    """What torch takes for a stage. Not the model itself, whose gradients torch would keep whole until the last one."""

    def __init__(
        self, compute: Callable[[int, MicroBatch], Tensor], rows: Sequence[MicroBatch], seam: StageBoundary
    ) -> None:
        super().__init__()
        self._seam = seam
        self._compute = compute
        self._rows = rows

    def forward(self, *received: Tensor, index: Tensor) -> Any:
        place = int(index)
        self._seam.receive(received[0] if received else None)
        made = self._compute(place, self._rows[place])
        # It would keep activations until the next micro-batch.
        self._seam.receive(None)
        return made
