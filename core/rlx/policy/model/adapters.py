"""Causal LMs as the policy asks them, whoever made them.

The rules of this part:

* Three makers: transformers, a plugin with `rlx.BaseModel`, and a plugin with any other module. What is known of each
  stands here; nothing else asks who made a model.
* What a config or a signature tells is believed here and measured in `rlx.policy.model.self_check`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rlx.models.base_model import BaseModel
from rlx.models.tensor_parallel import share_slots
from rlx.policy.model.logprobs import Head
from rlx.policy.packing import packed_attention as attention
from rlx.policy.packing.batch import MicroBatch
from rlx.policy.parallel import pipeline as stages
from rlx.policy.parallel import transformers_plans as plans
from rlx.policy.parallel.pipeline import Parts

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.distributed.device_mesh import DeviceMesh

    from rlx.config.sections.policy import ParallelConfig


class Network(Protocol):
    """A causal LM on micro-batches of B x L slots."""

    @property
    def vocabulary(self) -> int:
        """Entries of a logit row."""

    @property
    def width(self) -> int:
        """Of its hidden states, where it can be cut into stages."""

    def packing_refusal(self) -> str | None:
        """Why it cannot run on packed rows; None where it can, as far as that is known."""

    def head(self) -> Head | None:
        """How it makes logits of its hidden states; None where that is unknown."""

    def use(self, *, packing: bool) -> None:
        """Get ready for packed rows, or for padded ones."""

    def parallel_refusal(self, parallel: ParallelConfig) -> str | None:
        """Why its layers cannot be shared by ranks so; None where they can."""

    def parallelize(self, mesh: DeviceMesh) -> None:
        """Split parameters in other ways than over data, in place; they are on the meta device."""

    def parts(self) -> Parts:
        """Between which of its modules it can be cut into stages, if it can."""

    def hidden(self, micro: MicroBatch) -> Tensor:
        """[B, L, H], of a network whose head is known."""

    def logits(self, micro: MicroBatch) -> Tensor:
        """[B, L, V], in its own way."""

    def step_end(self) -> dict[str, float]:
        """What it does and tells after an optimizer update."""


def network_of(module: nn.Module) -> Network:
    """The network that `module` is."""
    from transformers import PreTrainedModel

    if isinstance(module, PreTrainedModel):
        return TransformersNetwork(module)
    return PluginNetwork(module) if isinstance(module, BaseModel) else ForeignNetwork(module)


class TransformersNetwork:
    """A `PreTrainedModel`. Its attention is replaced for packed rows, and put back for padded ones."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._config = module.config.get_text_config()
        self._own_attention = getattr(module.config, "_attn_implementation", None)
        self._takes_positions = _takes(module.forward, "position_ids")

    @property
    def vocabulary(self) -> int:
        return int(self._config.vocab_size)

    @property
    def width(self) -> int:
        return int(self._config.hidden_size)

    def packing_refusal(self) -> str | None:
        if not getattr(self._module, "_supports_attention_backend", False):
            return "its attention cannot be replaced"
        config = self._config
        if not getattr(config, "is_causal", True):
            return "its attention is not causal"
        layer_types = set(getattr(config, "layer_types", None) or ())
        if layer_types - {"full_attention"}:
            return f"it has {', '.join(sorted(layer_types - {'full_attention'}))} layers"
        for name in ("attn_logit_softcapping", "alibi", "attention_chunk_size"):
            if getattr(config, name, None):
                return f"its config sets {name}"
        if not layer_types and getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
            return "its config sets sliding_window"
        return None

    def head(self) -> Head | None:
        output = self._module.get_output_embeddings()
        if output is None or getattr(output, "weight", None) is None:
            return None
        config = self._config
        scale = float(getattr(config, "logit_scale", None) or 1.0)
        scale /= float(getattr(config, "logits_scaling", None) or 1.0)
        softcap = getattr(config, "final_logit_softcapping", None)
        return Head(output.weight, getattr(output, "bias", None), scale, softcap)

    def use(self, *, packing: bool) -> None:
        if self._own_attention is not None:
            attention.register()
            self._module.set_attn_implementation(attention.NAME if packing else self._own_attention)

    def parallel_refusal(self, parallel: ParallelConfig) -> str | None:
        if parallel.tp > 1 and (refusal := plans.tensor_refusal(self._module, parallel.tp)):
            return refusal
        if parallel.ep > 1 and (refusal := plans.experts_refusal(self._module, parallel.ep)):
            return refusal
        if parallel.pp > 1 and (refusal := self._stages_refusal(parallel.pp)):
            return refusal
        split = parallel.cp * (parallel.tp if plans.splits_heads(self._module) else 1)
        return _heads_refusal(self._config, parallel.cp, split)

    def parallelize(self, mesh: DeviceMesh) -> None:
        if mesh["tp"].size() > 1:
            plans.split_matrices(self._module, mesh["tp"])
        if mesh["ep"].size() > 1:
            plans.spread_experts(self._module, mesh["ep"])

    def parts(self) -> Parts:
        decoder, plan = self._module.get_decoder(), list(self._config.base_model_pp_plan)
        layers = plan.index("layers")
        before, after = ([getattr(decoder, name) for name in names] for names in (plan[:layers], plan[layers + 1 :]))
        embedding = self._module.get_input_embeddings()
        followed = [part for part in before if part is not embedding]
        return Parts([embedding, *followed], list(decoder.layers), [*after, self._module.get_output_embeddings()])

    def hidden(self, micro: MicroBatch) -> Tensor:
        hidden: Tensor = self._module.get_decoder()(**self._inputs(micro)).last_hidden_state
        return hidden

    def logits(self, micro: MicroBatch) -> Tensor:
        logits: Tensor = self._module(**self._inputs(micro)).logits
        return logits

    def step_end(self) -> dict[str, float]:
        return {}

    def _stages_refusal(self, count: int) -> str | None:
        if not self._config.base_model_pp_plan or self._module.get_output_embeddings() is None:
            return f"{type(self._module).__name__} has no pipeline plan"
        return stages.refusal(self._module, self.parts(), count)

    def _inputs(self, micro: MicroBatch) -> dict[str, Any]:
        inputs: dict[str, Any] = {"input_ids": micro.tokens, "use_cache": False}
        if self._takes_positions:
            inputs["position_ids"] = micro.positions
        if micro.layout is not None:
            inputs["rlx_layout"] = micro.layout
        return inputs


class PluginNetwork:
    """An `rlx.BaseModel`. It is handed the attention that packed rows need."""

    def __init__(self, module: BaseModel) -> None:
        self._module = module
        self._says_hidden_states = type(module).hidden_states is not BaseModel.hidden_states

    @property
    def vocabulary(self) -> int:
        return int(self._module.hf_config.get_text_config().vocab_size)

    def packing_refusal(self) -> str | None:
        inner = self._module.hidden_states if self._says_hidden_states else self._module.forward
        return None if _takes(inner, "attention") else f"its {inner.__name__} takes no attention"

    def head(self) -> Head | None:
        output: Any = self._module.output_embedding()
        return None if output is None else Head(output.weight, getattr(output, "bias", None))

    def use(self, *, packing: bool) -> None:
        """Each micro-batch says by itself how its rows are to be attended."""

    @property
    def width(self) -> int:
        head: Any = self._module.output_embedding()
        return int(head.weight.shape[1])

    def parts(self) -> Parts:
        module = self._module
        embedding, layers, head = module.input_embedding(), module.decoder_layers(), module.output_embedding()
        assert embedding is not None, "pp was refused"
        assert head is not None, "pp was refused"
        return Parts([embedding], list(layers), [*stages.others(module, {embedding, layers, head}), head])

    def parallel_refusal(self, parallel: ParallelConfig) -> str | None:
        refusal = self._module.parallel_refusal(parallel.sizes)
        if refusal is None and parallel.pp > 1:
            refusal = self._stages_refusal(parallel.pp)
        split = parallel.cp * parallel.tp
        return refusal or _heads_refusal(self._module.hf_config.get_text_config(), parallel.cp, split)

    def parallelize(self, mesh: DeviceMesh) -> None:
        self._module.parallelize(mesh)
        if mesh["tp"].size() > 1:
            layers = self._module.decoder_layers()
            share_slots(layers[0], layers[-1], mesh["tp"])

    def hidden(self, micro: MicroBatch) -> Tensor:
        return self._module.hidden_states(micro.tokens, micro.positions, **self._attention(micro))

    def logits(self, micro: MicroBatch) -> Tensor:
        output: Any = self._module(micro.tokens, micro.positions, **self._attention(micro))
        logits: Tensor = output.logits
        return logits

    def step_end(self) -> dict[str, float]:
        return self._module.step_end()

    def _stages_refusal(self, count: int) -> str | None:
        named = type(self._module).__name__
        if not self._says_hidden_states or self._module.output_embedding() is None:
            return f"pp = {count} needs hidden_states and output_embedding, which {named} does not have"
        if self._module.input_embedding() is None:
            return f"pp = {count} needs input_embedding, which {named} does not have"
        return stages.refusal(self._module, self.parts(), count)

    def _attention(self, micro: MicroBatch) -> dict[str, Any]:
        return {} if micro.layout is None else {"attention": attention.over(micro.layout)}


@dataclass(frozen=True)
class ForeignNetwork:
    """Any other module: tokens and positions in, logits out, on padded rows."""

    module: nn.Module

    @property
    def vocabulary(self) -> int:
        raise AssertionError("what a foreign network does is not compared with anything")

    def packing_refusal(self) -> str | None:
        return "it is neither a transformers model nor an rlx.BaseModel"

    def head(self) -> Head | None:
        return None

    def use(self, *, packing: bool) -> None:
        assert not packing, "packing was refused"

    def parallel_refusal(self, parallel: ParallelConfig) -> str | None:
        used = parallel.tp * parallel.ep * parallel.pp > 1
        return "it is no rlx.BaseModel, which could say how it is split" if used else None

    def parallelize(self, mesh: DeviceMesh) -> None:
        """It is not known how."""

    @property
    def width(self) -> int:
        raise AssertionError("pp was refused")

    def parts(self) -> Parts:
        raise AssertionError("pp was refused")

    def hidden(self, micro: MicroBatch) -> Tensor:  # noqa: ARG002 - the protocol's
        raise AssertionError("its head is not known")

    def logits(self, micro: MicroBatch) -> Tensor:
        inputs = {"input_ids": micro.tokens}
        if _takes(self.module.forward, "position_ids"):
            inputs["position_ids"] = micro.positions
        logits: Tensor = self.module(**inputs).logits
        return logits

    def step_end(self) -> dict[str, float]:
        return {}


def _heads_refusal(config: Any, cp: int, split: int) -> str | None:
    """Why context parallelism can't split the attention heads over so many ranks, those of tp included."""
    heads = getattr(config, "num_attention_heads", None)
    if cp == 1 or heads is None or heads % split == 0:
        return None
    over = f"cp = {cp}" if cp == split else f"cp = {cp} times tp = {split // cp}"
    return f"{over} does not divide its {heads} attention heads"


def _takes(function: Callable[..., Any], name: str) -> bool:
    parameters = inspect.signature(function).parameters
    return name in parameters or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
