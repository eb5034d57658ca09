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

from rlx.policy import attention, support
from rlx.policy.batch import MicroBatch, TokenOutputs
from rlx.policy.logprobs import logits_logprobs, token_logprobs

if TYPE_CHECKING:
    from torch import Tensor

_LOGITS_ROWS = 1024
"""Rows of a model's own logits that are float32 at once."""


class PolicyModel(nn.Module):
    """A causal LM that answers with log-probabilities of given tokens.

    temperature: logits are divided by it, as the sampler does. chunk: vocabulary entries whose logits exist at once.
    packing: whether micro-batches are packed rows; False where the model does not allow them, whatever was asked.
    own_logits: whether the model computes its own logits, all [T, V] of them in the compute dtype.
    """

    def __init__(self, causal_lm: nn.Module, *, temperature: float, chunk: int, packing: bool = True) -> None:
        super().__init__()
        self.causal_lm = causal_lm
        self.temperature = temperature
        self.chunk = chunk
        self._own_attention = getattr(getattr(causal_lm, "config", None), "_attn_implementation", None)
        self._takes_positions = _takes(causal_lm, "position_ids")
        self.use(packing=packing and support.supports_packing(causal_lm), own_logits=support.head_of(causal_lm) is None)

    def use(self, *, packing: bool, own_logits: bool) -> None:
        """Set how it computes. Packing needs a model of transformers, and switches its attention."""
        self.packing = packing
        self.own_logits = own_logits
        if self._own_attention is not None:
            attention.register()
            self.causal_lm.set_attn_implementation(attention.NAME if packing else self._own_attention)  # type: ignore[operator]

    def verify(self) -> list[str]:
        """Measure that packing and chunked logits are right for this model, and switch off what is not; says what.

        To be called once its weights are there; under FSDP by all ranks.
        """
        return support.verify(self)

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
        if self._own_attention is not None:
            inputs["use_cache"] = False
        if micro.layout is not None:
            inputs["rlx_layout"] = micro.layout
        return inputs


def _takes(module: nn.Module, name: str) -> bool:
    parameters = inspect.signature(module.forward).parameters
    return name in parameters or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def _slots(values: Tensor, micro: MicroBatch) -> Tensor:
    return values.flatten(0, 1).index_select(0, micro.slots)
