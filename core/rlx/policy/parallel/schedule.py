"""The order in which the micro-batches of a step run: one after another, or through a pipeline of stages.

Rules:

* Every rank gets the outputs of every micro-batch that it shares; only the last stage's outputs have gradients.
* Pipeline schedules are torch's: 1F1B for training, GPipe for forward only. Their activations have one shape, so the
  rows of a step are padded to one length; no token attends to the padding, and it predicts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from rlx.errors import ConfigError
from rlx.policy.packing.batch import MicroBatch, TokenOutputs

if TYPE_CHECKING:
    from rlx.policy.parallel.pipeline import Stage, StageBoundary

LossFn = Callable[[int, TokenOutputs], Tensor]
"""Computes the loss of a micro-batch from its index in the step and its outputs."""

StageForward = Callable[[int, MicroBatch], Tensor]
"""Computes this stage of a micro-batch: hidden states for the next stage, or the loss on the last."""


class Schedule(Protocol):
    """Runs a step's micro-batches through `model`, which computes one micro-batch, or a stage of it."""

    def forward_backward(self, model: nn.Module, micro_batches: Sequence[MicroBatch], loss: LossFn) -> None:
        """Run forward and backward of each micro-batch. Every rank calls `loss` once for each."""

    def outputs(
        self, model: nn.Module, micro_batches: Sequence[MicroBatch], temperature: float | None
    ) -> list[TokenOutputs]:
        """Run the forward of each micro-batch; gradients must be switched off."""


class Sequential:
    """Each micro-batch in turn."""

    def forward_backward(self, model: nn.Module, micro_batches: Sequence[MicroBatch], loss: LossFn) -> None:
        for index, batch in enumerate(micro_batches):
            loss(index, model(batch)).backward()  # type: ignore[no-untyped-call]

    def outputs(
        self, model: nn.Module, micro_batches: Sequence[MicroBatch], temperature: float | None
    ) -> list[TokenOutputs]:
        return [model(batch, temperature=temperature) for batch in micro_batches]


@dataclass(frozen=True)
class Pipeline:
    """A pipeline with this rank in one of its stages.

    hidden_size, dtype: of the hidden states between stages. cp: number of ranks that split the positions of a row.
    """

    stage: Stage
    boundary: StageBoundary
    hidden_size: int
    dtype: torch.dtype
    cp: int

    def forward_backward(self, model: nn.Module, micro_batches: Sequence[MicroBatch], loss: LossFn) -> None:
        computed: dict[int, TokenOutputs] = {}

        def forward(index: int, batch: MicroBatch) -> Tensor:
            if not self.stage.last:
                return self.boundary.send(model(batch))
            outputs = model(batch)
            computed[index] = TokenOutputs(*(part.detach() for part in outputs))
            return loss(index, outputs).view(1)

        self._run(micro_batches, forward, backward=True)
        everywhere = self._broadcast_outputs(micro_batches, computed)
        if not self.stage.last:
            # Metrics are computed along with the loss, and must be the same on every rank.
            with torch.no_grad():
                for index, outputs in enumerate(everywhere):
                    loss(index, outputs)

    def outputs(
        self, model: nn.Module, micro_batches: Sequence[MicroBatch], temperature: float | None
    ) -> list[TokenOutputs]:
        computed: dict[int, TokenOutputs] = {}

        def forward(index: int, batch: MicroBatch) -> Tensor:
            if not self.stage.last:
                return self.boundary.send(model(batch))
            computed[index] = model(batch, temperature=temperature)
            return torch.zeros(1, device=batch.tokens.device)

        self._run(micro_batches, forward, backward=False)
        return self._broadcast_outputs(micro_batches, computed)

    def _run(self, micro_batches: Sequence[MicroBatch], forward: StageForward, *, backward: bool) -> None:
        length = max(batch.tokens.shape[1] for batch in micro_batches)
        padded = [batch.padded_to(length) for batch in micro_batches]
        indices = torch.arange(len(padded))
        # New in each step, since its activations are as long as the step's longest row.
        stage = self._torch_stage(_StageModule(forward, padded, self.boundary), padded[0])
        if backward:
            # torch's 1F1B refuses fewer micro-batches than stages.
            kind = Schedule1F1B if len(padded) >= self.stage.count else ScheduleGPipe
            # Losses are shares of the step's loss already.
            schedule = kind(stage, len(padded), loss_fn=lambda loss, _index: loss.sum(), scale_grads=False)
            schedule.step(index=indices, target=indices if self.stage.last else None)
        else:
            ScheduleGPipe(stage, len(padded)).eval(index=indices)
        if self.stage.sum_over_stages(self.boundary.changed):
            raise ConfigError(
                f"[policy.parallel] does not fit the model: pp = {self.stage.count}, and it changes hidden states "
                "between its embedding, its layers and the modules after them; stages pass them on unchanged."
            )

    def _torch_stage(self, module: nn.Module, batch: MicroBatch) -> PipelineStage:
        rows, length = batch.tokens.shape
        positions = length if batch.layout is None else length // self.cp
        hidden = torch.empty(rows, positions, self.hidden_size, dtype=self.dtype, device="meta", requires_grad=True)
        loss = torch.empty(1, device="meta", requires_grad=True)
        return PipelineStage(
            module,
            self.stage.index,
            self.stage.count,
            batch.tokens.device,
            input_args=() if self.stage.first else hidden,
            output_args=loss if self.stage.last else hidden,
            group=self.stage.mesh.get_group(),
        )

    def _broadcast_outputs(
        self, micro_batches: Sequence[MicroBatch], computed: dict[int, TokenOutputs]
    ) -> list[TokenOutputs]:
        """Return the last stage's outputs on every stage."""
        last = self.stage.count - 1
        blank = [TokenOutputs(*(torch.empty_like(batch.advantages) for _ in range(2))) for batch in micro_batches]
        own = [computed.get(index, outputs) for index, outputs in enumerate(blank)]
        return [
            TokenOutputs(*(self.stage.broadcast_from(last, part.contiguous()) for part in outputs)) for outputs in own
        ]


class _StageModule(nn.Module):
    """The module of a torch `PipelineStage`.

    It isn't the model itself, since torch keeps the gradients of a stage's module unsharded until the last micro-batch.
    """

    def __init__(self, forward: StageForward, micro_batches: Sequence[MicroBatch], boundary: StageBoundary) -> None:
        super().__init__()
        self._boundary = boundary
        self._forward = forward
        self._micro_batches = micro_batches

    def forward(self, *received: Tensor, index: Tensor) -> Tensor:
        self._boundary.receive(received[0] if received else None)
        output = self._forward(int(index), self._micro_batches[int(index)])
        # The boundary would keep activations alive until the next micro-batch.
        self._boundary.receive(None)
        return output
