"""From a micro-batch to log-probabilities: the network that FSDP shards and the trainer calls.

The rules of this part:

* `PolicyModel` is the root that FSDP wraps, so everything that touches parameters happens inside its `forward`.
* Hidden states are computed for all slots, logits for trained tokens only.
* Padded rows carry no attention mask: padding is on the right, and a causal model never looks there.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from torch import nn

from rlx.policy import support
from rlx.policy.batch import MicroBatch, TokenOutputs
from rlx.policy.logprobs import logits_logprobs, token_logprobs

if TYPE_CHECKING:
    from torch import Tensor

_LOGITS_ROWS = 1024
"""Rows of a model's own logits that are float32 at once."""


class PolicyModel(nn.Module):
    """A causal LM that answers with log-probabilities of given tokens.

    temperature: logits are divided by it, as the sampler does. chunk: vocabulary entries whose logits exist at once.
    packing: whether micro-batches may be packed rows. own_logits: whether the model computes its own logits, all [T, V]
    of them.
    """

    def __init__(self, causal_lm: nn.Module, *, temperature: float, chunk: int, packing: bool = True) -> None:
        super().__init__()
        self.causal_lm = causal_lm
        self.temperature = temperature
        self.chunk = chunk
        self.packing = packing and support.supports_packing(causal_lm)
        self.own_logits = support.head_of(causal_lm) is None
        if self.packing:
            support.use_packing(causal_lm)
        self._takes_positions = "position_ids" in inspect.signature(causal_lm.forward).parameters

    def forward(self, micro: MicroBatch, *, temperature: float | None = None) -> TokenOutputs:
        """Log-probabilities and entropy [T] of the micro-batch's trained tokens. `temperature` replaces the model's
        own.
        """
        temperature = self.temperature if temperature is None else temperature
        if self.own_logits:
            logits = _slots(self.causal_lm(**self._inputs(micro)).logits, micro)
            return TokenOutputs(*logits_logprobs(logits, micro.targets, temperature=temperature, chunk=_LOGITS_ROWS))
        head = support.head_of(self.causal_lm)
        assert head is not None
        decoder: Any = self.causal_lm.get_decoder()  # type: ignore[operator]
        hidden = _slots(decoder(**self._inputs(micro)).last_hidden_state, micro)
        return TokenOutputs(*token_logprobs(hidden, head, micro.targets, temperature=temperature, chunk=self.chunk))

    def _inputs(self, micro: MicroBatch) -> dict[str, Any]:
        inputs: dict[str, Any] = {"input_ids": micro.tokens}
        if self._takes_positions:
            inputs["position_ids"] = micro.positions
        if isinstance(self.causal_lm, _pretrained()):
            inputs["use_cache"] = False
        if micro.layout is not None:
            inputs["rlx_layout"] = micro.layout
        return inputs


def _pretrained() -> type[nn.Module]:
    from transformers import PreTrainedModel

    model: type[nn.Module] = PreTrainedModel
    return model


def _slots(values: Tensor, micro: MicroBatch) -> Tensor:
    return values.flatten(0, 1).index_select(0, micro.slots)
