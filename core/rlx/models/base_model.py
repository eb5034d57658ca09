"""`rlx.BaseModel`: the base class of models that are not from transformers.

Rules:

* A model defines the computation: hidden states of tokens, and the module that turns them into logits.
  Log-probabilities in chunks of the vocabulary, packed rows, sharding, recomputation, loading and sending weights are
  up to rlx.
* Attention is passed in. A model that calls it with its queries, keys and values runs on packed rows and on any other
  layout of sequences that rlx uses; one that doesn't take it runs on padded rows.

Shapes: B rows, S positions of a row, H the hidden size, V the vocabulary, D the size of a head.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


HFConfig: TypeAlias = Any
"""The Hugging Face config of a model: an object with the attributes of its config.json."""


class Attention(Protocol):
    """Causal attention within each sequence of a batch, for any layout of sequences in its rows."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, *, scale: float | None = None) -> Tensor:
        """Return the attention's output [B, heads, S, Dv].

        query: [B, heads, S, D]. key: [B, kv_heads, S, D]. value: [B, kv_heads, S, Dv]. heads is a multiple of kv_heads:
        consecutive query heads share a key and value head. scale: multiplies the scores; None for D ** -0.5.
        """


def causal_attention(query: Tensor, key: Tensor, value: Tensor, *, scale: float | None = None) -> Tensor:
    """Compute `Attention` over rows that each hold one sequence, padded on the right or not at all."""
    shared = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=shared)


@dataclass
class CausalLMOutput:
    """The output of a model's forward."""

    logits: Tensor
    """[B, S, V], in the dtype that the model computes in."""


class BaseModel(nn.Module, ABC):
    """A causal language model of a plugin. Write the constructor, `supported_model_types` and `hidden_states` with
    `output_embedding`; or, if logits are more than one matrix product, `forward` alone.

    Its constructor takes the Hugging Face config. rlx calls it with parameters on the meta device and buffers on the
    real one: register buffers that no checkpoint holds (rotary frequencies) with `persistent=False`. Values of
    parameters come from the checkpoint. If a model is only counted or planned, its buffers are on the meta device, too:
    constructors must not read their values.
    """

    def __init__(self, hf_config: HFConfig) -> None:
        super().__init__()
        self.hf_config = hf_config

    @staticmethod
    @abstractmethod
    def supported_model_types() -> list[str]:
        """Return the values of `model_type` in config.json that this class can build."""

    def hidden_states(self, input_ids: Tensor, position_ids: Tensor, attention: Attention = causal_attention) -> Tensor:
        """Return the hidden states after the last norm, which `output_embedding` turns into logits: [B, S, H] in the
        compute dtype.

        input_ids, position_ids: [B, S] int64; position ids count from the start of each sequence, wherever it is in the
        row. attention: see `Attention`; leave the parameter out if the model can't use it.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither hidden_states nor a forward of its own")

    def output_embedding(self) -> nn.Module | None:
        """Return the module whose `weight` [V, H] (and `bias` [V], if it has one) turns hidden states into logits; may
        be the input embedding. None: only `forward` can, and all [B, S, V] logits are made at once.
        """
        return None

    def input_embedding(self) -> nn.Module | None:
        """Return the module that turns input_ids into hidden states, for `[policy.parallel] pp`. None: the model can't
        be split into pipeline stages.

        With it, the first stage has this module, each stage a run of `decoder_layers`, and the last stage every other
        module that holds parameters; parameters outside of these modules can't be placed. Each rank calls
        `hidden_states`: modules of other stages return their first argument, and the embedding returns the output of
        the previous stage. Hidden states must therefore go from the embedding through the layers to the last modules
        unchanged, as first argument and only result. A weight that head and embedding share is on both stages.
        """
        return None

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, attention: Attention = causal_attention
    ) -> CausalLMOutput:
        """Return the logits of every position; arguments as in `hidden_states`."""
        optional = {} if attention is causal_attention else {"attention": attention}
        hidden = self.hidden_states(input_ids, position_ids, **optional)
        head: Any = self.output_embedding()
        if head is None:
            raise NotImplementedError(f"{type(self).__name__} has neither output_embedding nor a forward of its own")
        return CausalLMOutput(F.linear(hidden, head.weight, getattr(head, "bias", None)))

    def decoder_layers(self) -> nn.ModuleList:
        """Return the list whose modules FSDP shards one by one, and whose tensors are sent together. Default: the
        longest list of modules that is not inside another one.
        """
        return longest_list(self)[1]

    def parallelize(self, mesh: DeviceMesh) -> None:
        """Split parameters over tp and ep, in place. Default: split nothing.

        Called once on every rank, with parameters on the meta device, before rlx applies FSDP to each decoder layer.
        `mesh` has a dimension for each kind of parallelism, by name: the model handles `tp` and `ep` (rlx the
        others), which have size 1 if they are not in use. A parameter that is split becomes a DTensor over one of the
        two, and FSDP shards it over the other ranks; other parameters are sharded over all ranks. Gradients are sums.

        ep: ranks have micro-batches of their own. tp: rlx passes a decoder layer the hidden states of this rank's run
        of the positions, [B, S / tp, H], and expects those of the same positions back. A block that is split gathers
        the other ranks' positions and returns the sum of all ranks' outputs for its own: `rlx.split_block` does that.
        """

    def parallel_refusal(self, sizes: Mapping[str, int]) -> str | None:
        """Return the reason why the model can't be split over `sizes` ranks, as a text for the user; None if it can.

        `rlx check` calls it. sizes: the size of each dimension of the mesh. Default: a model without `parallelize`
        can't have tp or ep.
        """
        used = [f"{name} = {sizes[name]}" for name in ("tp", "ep") if sizes[name] > 1]
        if not used or type(self).parallelize is not BaseModel.parallelize:
            return None
        return f"{type(self).__name__} has no parallelize, which {' and '.join(used)} would need"

    def step_end(self) -> dict[str, float]:
        """Return the model's own metrics of a step. Default: none.

        Called on every rank after each optimizer update; rank 0's metrics are reported, and must not have the
        names of rlx's metrics. This is the place to update buffers that learn without a gradient, identically on all
        ranks. With pp, a rank has computed only the layers of its stage: sum counts over all ranks before you return
        them. A layer's buffers are saved and sent by its own stage.
        """
        return {}

    @classmethod
    def get_nparams_and_flops(cls, hf_config: HFConfig, seq_len: int) -> tuple[int, int]:
        """Return the number of parameters, and the floating-point operations of forward and backward for each token of
        a sequence of `seq_len`.

        Default: 6 N + 12 * layers * heads * D * seq_len (PaLM, appendix B), N without tables that are only looked up;
        correct if every parameter is used for every token.
        """
        with torch.device("meta"):
            model = cls(hf_config)
        head: Any = model.output_embedding()
        tables = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
        looked_up = sum(table.numel() for table in tables if head is None or table is not head.weight)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        heads = hf_config.num_attention_heads
        width = heads * (getattr(hf_config, "head_dim", None) or hf_config.hidden_size // heads)
        attended = 12 * len(model.decoder_layers()) * width * seq_len
        return parameters, 6 * (parameters - looked_up) + attended


def longest_list(network: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the longest list of modules that is not inside another one, and its name.

    Raises ValueError if the network has none.
    """
    lists = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.ModuleList)]
    outer = [item for item in lists if not any(item[0].startswith(f"{name}.") for name, _ in lists)]
    if not outer:
        raise ValueError(f"{type(network).__name__} has no list of decoder layers")
    return max(outer, key=lambda item: len(item[1]))
