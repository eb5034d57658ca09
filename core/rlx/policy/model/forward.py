"""From a micro-batch to log-probabilities: the network that FSDP shards and the trainer calls.

The rules of this part:

* `PolicyModel` is the root that FSDP wraps, so everything that touches parameters happens inside its `forward`.
* Hidden states are computed for all slots, logits for trained tokens only.
* Padded rows carry no attention mask: padding is on the right, and a causal model never looks there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from rlx.policy.model.adapters import network_of
from rlx.policy.model.logprobs import logits_logprobs, token_logprobs
from rlx.policy.packing.batch import MicroBatch, TokenOutputs
from rlx.policy.parallel.context_parallel import RowSharding, Unsharded
from rlx.policy.parallel.schedule import Loss, Schedule, Sequential

if TYPE_CHECKING:
    from torch import Tensor

_LOGITS_ROWS = 1024
"""Rows of a model's own logits that are float32 at once."""


class PolicyModel(nn.Module):
    """A causal LM that answers with log-probabilities of given tokens.

    temperature: logits are divided by it, as the sampler does. chunk: vocabulary entries whose logits exist at once.
    packing: whether micro-batches are packed rows; False where the model does not allow them, whatever was asked.
    own_logits: whether the model computes its own logits, all [T, V] of them in the compute dtype. context: what this
    rank computes of a micro-batch, where others share it.
    """

    def __init__(
        self,
        causal_lm: nn.Module,
        *,
        temperature: float,
        chunk: int,
        packing: bool = True,
        context: RowSharding | None = None,
    ) -> None:
        super().__init__()
        self.causal_lm = causal_lm
        self.temperature = temperature
        self.chunk = chunk
        self.context = context or Unsharded()
        self.go_through(Sequential(), last=True)
        self.network = network_of(causal_lm)
        allowed = self.network.packing_refusal() is None
        self.use(packing=packing and allowed, own_logits=self.network.head() is None)

    def use(self, *, packing: bool, own_logits: bool) -> None:
        """Set how it computes. Packing needs a network that does not refuse it."""
        self.packing = packing
        self.own_logits = own_logits
        self.network.use(packing=packing)

    def go_through(self, flow: Schedule, *, last: bool) -> None:
        """Set how micro-batches go through it, and whether it computes the last of the stages; others make hidden
        states.
        """
        self.flow = flow
        self.last = last

    def learn(self, micro: Sequence[MicroBatch], loss: Loss) -> None:
        """Forward and backward of a step's micro-batches; `loss` is called once for each, on every rank."""
        self.flow.learn(self, list(map(self.context.filled, micro)), loss)

    @torch.no_grad()
    def outputs(self, micro: Sequence[MicroBatch], *, temperature: float | None = None) -> list[TokenOutputs]:
        """Of each micro-batch, on every rank that shares it."""
        return self.flow.outputs(self, list(map(self.context.filled, micro)), temperature)

    def forward(self, micro: MicroBatch, *, temperature: float | None = None) -> TokenOutputs | Tensor:
        """Log-probabilities and entropy [T] of the micro-batch's trained tokens. `temperature` replaces the model's
        own. Called by what `learn` and `outputs` go through.
        """
        temperature = self.temperature if temperature is None else temperature
        local = self.context.local(micro)
        if not self.last:
            return self.network.hidden(local)
        return self.context.whole(self._outputs(local, temperature), micro)

    def _outputs(self, micro: MicroBatch, temperature: float) -> TokenOutputs:
        if self.own_logits:
            logits = _slots(self.network.logits(micro), micro)
            return TokenOutputs(*logits_logprobs(logits, micro.targets, temperature=temperature, chunk=_LOGITS_ROWS))
        hidden = _slots(self.network.hidden(micro), micro)
        # Made anew each time: FSDP gathers the head's weight for the forward.
        head = self.network.head()
        assert head is not None
        return TokenOutputs(*token_logprobs(hidden, head, micro.targets, temperature=temperature, chunk=self.chunk))


def _slots(values: Tensor, micro: MicroBatch) -> Tensor:
    return values.flatten(0, 1).index_select(0, micro.slots)
