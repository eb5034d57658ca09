"""PolicyModel: from a micro-batch to log-probabilities.

A step goes through these calls:

    Trainer -> PolicyModel.forward_backward   row_sharding.pad: rows that all ranks can share
            -> Schedule.forward_backward      each micro-batch in turn, or through pipeline stages
            -> PolicyModel.forward            row_sharding.shard: this rank's positions and trained tokens
            -> ModelAdapter.hidden_states     the decoder, under FSDP, tp, cp and ep
            -> token_logprobs                 logits, a chunk of the vocabulary at a time
            -> row_sharding.gather            outputs of all trained tokens, on every rank
            -> loss, and backward

Rules:

* PolicyModel is the root that FSDP wraps, so everything that reads parameters happens inside its `forward`.
* Hidden states are computed for all positions, logits for trained tokens only.
* Padded rows have no attention mask: padding is on the right, where a causal model never looks.

Shapes: B rows, L positions of a row, T trained tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import torch
from torch import nn

from rlx.policy.model.adapters import adapter_for
from rlx.policy.model.logprobs import logits_logprobs, token_logprobs
from rlx.policy.packing.batch import MicroBatch, TokenOutputs
from rlx.policy.packing.cuts import attention_tokens_of
from rlx.policy.packing.step_plan import ATTENTION_TOKENS
from rlx.policy.parallel.context_parallel import RowSharding, Unsharded
from rlx.policy.parallel.schedule import LossFn, Schedule, Sequential

if TYPE_CHECKING:
    from torch import Tensor

_LOGITS_ROWS = 1024
"""Rows of the model's own logits that are converted to float32 at a time."""


class PolicyModel(nn.Module):
    """A causal LM that returns log-probabilities of given tokens.

    temperature: divides the logits, as in the sampler. chunk: vocabulary entries whose logits exist at once.
    packing: whether micro-batches are packed rows; False if the model doesn't allow it, even if asked for.
    own_logits: whether the model computes its own logits, [T, V] at once in the compute dtype. row_sharding: how this
    rank shares micro-batches with others.
    """

    def __init__(
        self,
        causal_lm: nn.Module,
        *,
        temperature: float,
        chunk: int,
        packing: bool = True,
        row_sharding: RowSharding | None = None,
    ) -> None:
        super().__init__()
        self.causal_lm = causal_lm
        self.temperature = temperature
        self.chunk = chunk
        self.row_sharding = row_sharding or Unsharded()
        self.dropout = False
        """Whether training mode applies the model's dropout."""
        self.use_schedule(Sequential(), last_stage=True)
        self.adapter = adapter_for(causal_lm)
        allowed = self.adapter.packing_refusal() is None
        self.use(packing=packing and allowed, own_logits=self.adapter.head() is None)
        self.train(causal_lm.training)

    @property
    def attention_tokens(self) -> int:
        """The length of a sequence at which attention takes as long as the rest of a layer, about."""
        hidden_size = getattr(getattr(self.causal_lm, "config", None), "hidden_size", None)
        return attention_tokens_of(hidden_size) if isinstance(hidden_size, int) else ATTENTION_TOKENS

    def use(self, *, packing: bool, own_logits: bool) -> None:
        """Choose packed or padded rows, and who computes logits. Packing needs a model that doesn't refuse it."""
        self.packing = packing
        self.own_logits = own_logits
        self.adapter.prepare_rows(packing=packing)

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode. Without `dropout`, both compute the same."""
        super().train(mode)
        if mode and not self.dropout:
            self.adapter.disable_dropout()
        return self

    def use_schedule(self, schedule: Schedule, *, last_stage: bool) -> None:
        """Choose the schedule of a step's micro-batches. All stages but the last compute hidden states only."""
        self.schedule = schedule
        self.last_stage = last_stage

    def forward_backward(self, micro_batches: Sequence[MicroBatch], loss: LossFn) -> None:
        """Run forward and backward of a step's micro-batches; `loss` is called once for each, on every rank."""
        self.schedule.forward_backward(self, [self.row_sharding.pad(batch) for batch in micro_batches], loss)

    @torch.no_grad()
    def outputs(self, micro_batches: Sequence[MicroBatch], *, temperature: float | None = None) -> list[TokenOutputs]:
        """Run the forward of each micro-batch; return their outputs on every rank that shares them."""
        return self.schedule.outputs(self, [self.row_sharding.pad(batch) for batch in micro_batches], temperature)

    def forward(self, micro: MicroBatch, *, temperature: float | None = None) -> TokenOutputs | Tensor:
        """Return log-probabilities and entropies [T] of the trained tokens, or this stage's hidden states [B, L, H].

        The schedule calls it. temperature: replaces the model's own.
        """
        local = self.row_sharding.shard(micro)
        if not self.last_stage:
            return self.adapter.hidden_states(local)
        outputs = self._token_outputs(local, self.temperature if temperature is None else temperature)
        return self.row_sharding.gather(outputs, micro)

    def _token_outputs(self, micro: MicroBatch, temperature: float) -> TokenOutputs:
        if self.own_logits:
            logits = _at_logit_positions(self.adapter.logits(micro), micro)
            return TokenOutputs(*logits_logprobs(logits, micro.targets, temperature=temperature, chunk=_LOGITS_ROWS))
        hidden = _at_logit_positions(self.adapter.hidden_states(micro), micro)
        # Looked up in each forward, since FSDP replaces the tensor of the head's weight.
        head = self.adapter.head()
        assert head is not None
        return TokenOutputs(*token_logprobs(hidden, head, micro.targets, temperature=temperature, chunk=self.chunk))


def _at_logit_positions(values: Tensor, micro: MicroBatch) -> Tensor:
    """Select the positions that predict trained tokens: [B, L, ...] -> [T, ...]."""
    return values.flatten(0, 1).index_select(0, micro.logit_positions)
