"""`rlx.BaseModel`: the base of models that are not transformers'.

The rules of this part:

* A model says what it computes: hidden states of tokens, and which module makes logits of them. Log-probabilities in
  chunks of the vocabulary, packed rows, sharding, recomputation, loading and sending are rlx's.
* Attention is handed in. A model that passes its queries, keys and values to what it is handed runs on packed rows,
  and on whatever else rlx makes of a sequence; one that doesn't take it runs on padded rows.

Shapes: B rows, L token slots, H the hidden size, V the vocabulary, D the size of a head.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


class Attention(Protocol):
    """Causal attention within each sequence of a batch, whichever way its rows hold sequences."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, *, scale: float | None = None) -> Tensor:
        """From query [B, heads, L, D], key [B, kv_heads, L, D], value [B, kv_heads, L, Dv] -> [B, heads, L, Dv].

        heads is a multiple of kv_heads: query heads share theirs in order. scale: of the scores; None: D ** -0.5.
        """


def causal_attention(query: Tensor, key: Tensor, value: Tensor, *, scale: float | None = None) -> Tensor:
    """`Attention` over rows that each hold one sequence, padded on the right or not at all."""
    shared = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=shared)


@dataclass
class CausalLMOutput:
    """What a model's forward returns."""

    logits: Tensor
    """[B, L, V], in the dtype that the model computes in."""


class BaseModel(nn.Module, ABC):
    """A causal language model of a plugin. Write the constructor, `supported_model_types` and `hidden_states` with
    `output_embedding`; or, where logits are more than one product, `forward` alone.

    Its constructor takes the Hugging Face config. rlx calls it with parameters on the meta device and buffers real:
    buffers that no checkpoint holds (rotary frequencies) are best registered with `persistent=False`. Values of
    parameters come from the checkpoint. Where a model is only counted or planned, its buffers are on the meta device,
    too: constructors must not look at their values.
    """

    def __init__(self, hf_config: Any) -> None:
        super().__init__()
        self.hf_config = hf_config

    @staticmethod
    @abstractmethod
    def supported_model_types() -> list[str]:
        """The values of `model_type` in config.json that this class can build."""

    def hidden_states(self, input_ids: Tensor, position_ids: Tensor, attention: Attention = causal_attention) -> Tensor:
        """What `output_embedding` makes logits of: after the last norm, [B, L, H] in the compute dtype.

        input_ids, position_ids: [B, L] int64; a position counts from the start of its sequence, wherever that lies in
        the row. attention: see `Attention`; leave the parameter out where the model can't use it.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither hidden_states nor a forward of its own")

    def output_embedding(self) -> nn.Module | None:
        """The module whose `weight` [V, H] (and `bias` [V], if it has one) makes logits of hidden states; may be the
        input embedding. None: only `forward` knows, and all [B, L, V] logits are made at once.
        """
        return None

    def input_embedding(self) -> nn.Module | None:
        """The module that makes hidden states of input_ids, for `[policy.parallel] pp`. None: the model can't be cut
        into stages.

        With it, the first stage has this module, each stage a run of `decoder_layers`, and the last stage every other
        module that holds parameters; a parameter outside of modules can't be cut. Each rank calls `hidden_states`:
        modules of other stages return their first argument, and in the place of the embedding comes what the stage
        before made. So hidden states go from the embedding through the layers to what follows as they are, as first
        argument and only result. A weight that is the head's and the embedding's lies on both stages.
        """
        return None

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, attention: Attention = causal_attention
    ) -> CausalLMOutput:
        """Logits of every slot; arguments as in `hidden_states`."""
        more = {} if attention is causal_attention else {"attention": attention}
        hidden = self.hidden_states(input_ids, position_ids, **more)
        head: Any = self.output_embedding()
        if head is None:
            raise NotImplementedError(f"{type(self).__name__} has neither output_embedding nor a forward of its own")
        return CausalLMOutput(F.linear(hidden, head.weight, getattr(head, "bias", None)))

    def decoder_layers(self) -> nn.ModuleList:
        """The list whose modules FSDP shards one by one, and whose tensors are sent together. Default: the longest
        list of modules that lies in no other one.
        """
        return longest_list(self)[1]

    def parallelize(self, mesh: DeviceMesh) -> None:
        """Split parameters in other ways than over data, in place. Default: nothing.

        Called once on every rank, with parameters on the meta device, before rlx applies FSDP to each decoder layer.
        `mesh` has a dimension for each kind of parallelism, by name: `tp` and `ep` are the model's (the others are
        rlx's), and have size 1 where they are not in use. What is split becomes a DTensor over one of the two. FSDP
        shards it over the other ranks; parameters that are left are sharded over all, and gradients are sums.

        ep: ranks have micro-batches of their own. tp: rlx hands a decoder layer the hidden states of this rank's run of
        the slots, [B, L / tp, H], and wants those of the same slots back. A block that is split gathers the others' and
        hands back what all have made of them: `rlx.models.tensor_parallel.split_block` does it.
        """

    def parallel_refusal(self, sizes: Mapping[str, int]) -> str | None:
        """Why the model can't be split over so many ranks, for the user to read; None where it can.

        `rlx check` asks it. sizes: of each dimension of the mesh. Default: a model without `parallelize` can't have
        tp or ep.
        """
        used = [f"{name} = {sizes[name]}" for name in ("tp", "ep") if sizes[name] > 1]
        if not used or type(self).parallelize is not BaseModel.parallelize:
            return None
        return f"{type(self).__name__} has no parallelize, which {' and '.join(used)} would need"

    def step_end(self) -> dict[str, float]:
        """What a step has to tell of this model, as metrics of the step. Default: nothing.

        Called on every rank after each optimizer update; what rank 0 returns is told, under names that are not rlx's
        own. The place to change buffers that learn without a gradient, alike on all ranks. With pp, a rank has
        computed the layers of its stage only: what is counted in them is told after a sum over all ranks. Of a layer's
        buffers, those of its stage are saved and sent.
        """
        return {}

    @classmethod
    def get_nparams_and_flops(cls, hf_config: Any, seq_len: int) -> tuple[int, int]:
        """The number of parameters, and the floating-point operations of forward and backward for each token of a
        sequence of `seq_len`.

        Default: 6 N + 12 * layers * heads * D * seq_len (PaLM, appendix B), N without tables that are only looked up;
        right where every parameter is used for every token.
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
    """The longest list of modules that lies in no other one, and its name. Raises ValueError where there is none."""
    lists = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.ModuleList)]
    outer = [item for item in lists if not any(item[0].startswith(f"{name}.") for name, _ in lists)]
    if not outer:
        raise ValueError(f"{type(network).__name__} has no list of decoder layers")
    return max(outer, key=lambda item: len(item[1]))
