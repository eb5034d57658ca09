"""Adapters: one interface for causal LMs of transformers, for `rlx.BaseModel`s, and for any other module.

Rules:

* All code that depends on a model's origin is here.
* Adapters trust a model's config and signatures; `rlx.policy.model.self_check` verifies them on the model.

Shapes: B rows, L positions of a row, H hidden size, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor, nn

from rlx.models.base_model import BaseModel
from rlx.models.tensor_parallel import share_positions
from rlx.policy.model.logprobs import LMHead
from rlx.policy.packing import packed_attention
from rlx.policy.packing.batch import MicroBatch
from rlx.policy.parallel import transformers_plans as plans
from rlx.policy.parallel.pipeline import PipelineParts, pipeline_refusal, remaining_modules

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from transformers import PreTrainedModel

    from rlx.config.sections.policy import ParallelConfig
    from rlx.models.base_model import Attention


EAGER = "eager"
"""The attention implementation that transformers' models define themselves: matrix products, every option applied."""
_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def adapter_for(module: nn.Module) -> ModelAdapter:
    """Return the adapter for a causal LM."""
    from transformers import PreTrainedModel

    if isinstance(module, PreTrainedModel):
        return TransformersAdapter(module)
    return BaseModelAdapter(module) if isinstance(module, BaseModel) else ModelAdapter(module)


class ModelAdapter:
    """Adapter for any module: tokens and positions in, logits out, on padded rows.

    It is also the interface: adapters for models that support more override the methods that refuse here.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    @property
    def vocab_size(self) -> int:
        """Size V of the vocabulary; for a module that doesn't give it, a number of ids that it must know."""
        return max(
            (part.num_embeddings for part in self._module.modules() if isinstance(part, nn.Embedding)), default=2
        )

    def packing_refusal(self) -> str | None:
        """Return why it can't run on packed rows, or None if it can, as far as that is known."""
        return "it is neither a transformers model nor an rlx.BaseModel"

    def head(self) -> LMHead | None:
        """Return the head that turns its hidden states into logits, or None if it is unknown."""
        return None

    own_attention: str | None = None
    """Name of the attention implementation for padded rows; None if it can't be chosen."""
    trains_in_eval_mode = False
    """Whether a step without dropout is computed in evaluation mode."""

    def attention_refusal(self, attention: str) -> str | None:
        """Return why this attention implementation would not compute what the model's config says, or None."""

    def prepare_rows(self, *, packing: bool) -> None:
        """Prepare for packed rows, or for padded ones. Packing needs a model that doesn't refuse it."""

    def disable_dropout(self) -> None:
        """Switch off, in a module in training mode, what drops values at random.

        Training mode stays on for the rest of a plugin's model, which may count in it what it learns without a
        gradient; unless the self-check has found that its outputs still depend on the mode.
        """
        if self.trains_in_eval_mode:
            self._module.eval()
        for module in self._module.modules():
            if isinstance(module, _DROPOUT):
                module.eval()

    def parallel_refusal(self, parallel: ParallelConfig) -> str | None:
        """Return why ranks can't share its layers in this way, or None if they can."""
        used = parallel.tp * parallel.ep * parallel.pp > 1
        return "it isn't an rlx.BaseModel, which could say how it is split" if used else None

    def parallelize(self, mesh: DeviceMesh) -> None:
        """Split parameters over tp and ep, in place, while they are on the meta device."""

    def pipeline_parts(self) -> PipelineParts:
        """Return the modules between which it can be cut into pipeline stages. Only called if pp isn't refused."""
        raise self._unsupported("pipeline_parts")

    def hidden_states(self, micro: MicroBatch) -> Tensor:  # noqa: ARG002 - for overrides
        """Return the input of the head, [B, L, H]. Only called if the head is known."""
        raise self._unsupported("hidden_states")

    def logits(self, micro: MicroBatch) -> Tensor:
        """Return logits as the model itself computes them, [B, L, V]."""
        inputs = {"input_ids": micro.tokens}
        if _takes(self._module.forward, "position_ids"):
            inputs["position_ids"] = micro.position_ids
        logits: Tensor = self._module(**inputs).logits
        return logits

    def step_end(self) -> dict[str, float]:
        """Update what the model learns without a gradient; called after each optimizer update. Return its metrics."""
        return {}

    def _unsupported(self, what: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} has no {what}")


class TransformersAdapter(ModelAdapter):
    """Adapter for a `PreTrainedModel`. Its attention is replaced for packed rows, and restored for padded ones."""

    # Dropout, layer drop and router noise of transformers' models are functions as well as modules, and all of them
    # read the mode.
    trains_in_eval_mode = True

    def __init__(self, module: PreTrainedModel) -> None:
        self._module: PreTrainedModel = module
        self._config = module.config.get_text_config()
        self.own_attention = getattr(module.config, "_attn_implementation", None)
        if self.own_attention is not None and self.attention_refusal(self.own_attention):
            self.own_attention = EAGER
        self._takes_positions = _takes(module.forward, "position_ids")

    @property
    def vocab_size(self) -> int:
        return int(self._config.vocab_size)

    def attention_refusal(self, attention: str) -> str | None:
        # transformers calls sdpa for these models, too, which takes a cap as an argument and drops it.
        cap = getattr(self._config, "attn_logit_softcapping", None)
        if attention != "sdpa" or cap is None:
            return None
        return f"sdpa leaves out the model's soft cap of attention scores (attn_logit_softcapping = {cap})"

    def packing_refusal(self) -> str | None:
        if not getattr(self._module, "_supports_attention_backend", False):
            return "its attention cannot be replaced"
        config = self._config
        if not getattr(config, "is_causal", True):
            return "its attention is not causal"
        layer_types = set(getattr(config, "layer_types", None) or ())
        if unsupported := layer_types - {"full_attention"}:
            return f"it has {', '.join(sorted(unsupported))} layers"
        for name in ("attn_logit_softcapping", "alibi", "attention_chunk_size"):
            if getattr(config, name, None):
                return f"its config sets {name}"
        if not layer_types and getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
            return "its config sets sliding_window"
        return None

    def head(self) -> LMHead | None:
        output = self._module.get_output_embeddings()
        if output is None or getattr(output, "weight", None) is None:
            return None
        config = self._config
        scale = float(getattr(config, "logit_scale", None) or 1.0)
        scale /= float(getattr(config, "logits_scaling", None) or 1.0)
        softcap = getattr(config, "final_logit_softcapping", None)
        return LMHead(output.weight, getattr(output, "bias", None), scale, softcap)

    def prepare_rows(self, *, packing: bool) -> None:
        if self.own_attention is not None:
            packed_attention.register()
            self._module.set_attn_implementation(packed_attention.NAME if packing else self.own_attention)

    def parallel_refusal(self, parallel: ParallelConfig) -> str | None:
        if parallel.tp > 1 and (refusal := plans.tensor_parallel_refusal(self._module, parallel.tp)):
            return refusal
        if parallel.ep > 1 and (refusal := plans.expert_parallel_refusal(self._module, parallel.ep)):
            return refusal
        if parallel.pp > 1 and (refusal := self._pipeline_refusal(parallel.pp)):
            return refusal
        ways = parallel.cp * (parallel.tp if plans.splits_attention(self._module) else 1)
        return _cp_heads_refusal(self._config, parallel.cp, ways)

    def _pipeline_refusal(self, stages: int) -> str | None:
        if not self._config.base_model_pp_plan or self._module.get_output_embeddings() is None:
            return f"{type(self._module).__name__} has no pipeline plan"
        return pipeline_refusal(self._module, self.pipeline_parts(), stages)

    def parallelize(self, mesh: DeviceMesh) -> None:
        if mesh["tp"].size() > 1:
            plans.apply_tensor_parallel(self._module, mesh["tp"])
        if mesh["ep"].size() > 1:
            plans.apply_expert_parallel(self._module, mesh["ep"])

    def pipeline_parts(self) -> PipelineParts:
        decoder, plan = self._module.get_decoder(), list(self._config.base_model_pp_plan)
        layers = plan.index("layers")
        before, after = ([getattr(decoder, name) for name in names] for names in (plan[:layers], plan[layers + 1 :]))
        embedding = self._module.get_input_embeddings()
        return PipelineParts(
            before=[embedding, *(module for module in before if module is not embedding)],
            layers=list(decoder.layers),
            after=[*after, self._module.get_output_embeddings()],
            hidden_size=int(self._config.hidden_size),
        )

    def hidden_states(self, micro: MicroBatch) -> Tensor:
        hidden: Tensor = self._module.get_decoder()(**self._inputs(micro)).last_hidden_state
        return hidden

    def logits(self, micro: MicroBatch) -> Tensor:
        logits: Tensor = self._module(**self._inputs(micro)).logits
        return logits

    def _inputs(self, micro: MicroBatch) -> dict[str, object]:
        inputs: dict[str, object] = {"input_ids": micro.tokens, "use_cache": False}
        if self._takes_positions:
            inputs["position_ids"] = micro.position_ids
        if micro.layout is not None:
            inputs["rlx_layout"] = micro.layout
        return inputs


class BaseModelAdapter(ModelAdapter):
    """Adapter for an `rlx.BaseModel`, which gets the attention for packed rows as an argument."""

    def __init__(self, module: BaseModel) -> None:
        self._module: BaseModel = module
        self._has_hidden_states = type(module).hidden_states is not BaseModel.hidden_states

    @property
    def vocab_size(self) -> int:
        return int(self._module.hf_config.get_text_config().vocab_size)

    def packing_refusal(self) -> str | None:
        inner = self._module.hidden_states if self._has_hidden_states else self._module.forward
        return None if _takes(inner, "attention") else f"its {inner.__name__} takes no attention"

    def head(self) -> LMHead | None:
        output = self._module.output_embedding()
        return None if output is None else LMHead(_tensor(output, "weight"), getattr(output, "bias", None))

    def parallel_refusal(self, parallel: ParallelConfig) -> str | None:
        refusal = self._module.parallel_refusal(parallel.sizes)
        if refusal is None and parallel.pp > 1:
            refusal = self._pipeline_refusal(parallel.pp)
        ways = parallel.cp * parallel.tp
        return refusal or _cp_heads_refusal(self._module.hf_config.get_text_config(), parallel.cp, ways)

    def _pipeline_refusal(self, stages: int) -> str | None:
        name = type(self._module).__name__
        if not self._has_hidden_states or self._module.output_embedding() is None:
            return f"pp = {stages} needs hidden_states and output_embedding, which {name} does not have"
        if self._module.input_embedding() is None:
            return f"pp = {stages} needs input_embedding, which {name} does not have"
        return pipeline_refusal(self._module, self.pipeline_parts(), stages)

    def parallelize(self, mesh: DeviceMesh) -> None:
        self._module.parallelize(mesh)
        if mesh["tp"].size() > 1:
            layers = self._module.decoder_layers()
            share_positions(layers[0], layers[-1], mesh["tp"])

    def pipeline_parts(self) -> PipelineParts:
        module = self._module
        embedding, layers, head = module.input_embedding(), module.decoder_layers(), module.output_embedding()
        assert embedding is not None, "pp was refused"
        assert head is not None, "pp was refused"
        rest = remaining_modules(module, {embedding, layers, head})
        return PipelineParts([embedding], list(layers), [*rest, head], _tensor(head, "weight").shape[1])

    def hidden_states(self, micro: MicroBatch) -> Tensor:
        return self._module.hidden_states(micro.tokens, micro.position_ids, **_attention_argument(micro))

    def logits(self, micro: MicroBatch) -> Tensor:
        logits: Tensor = self._module(micro.tokens, micro.position_ids, **_attention_argument(micro)).logits
        return logits

    def step_end(self) -> dict[str, float]:
        return self._module.step_end()


def _attention_argument(micro: MicroBatch) -> dict[str, Attention]:
    """Return the keyword argument for attention over packed rows. Models that run on padded rows needn't take it."""
    return {} if micro.layout is None else {"attention": packed_attention.attention_over(micro.layout)}


def _cp_heads_refusal(config: object, cp: int, ways: int) -> str | None:
    """Return why cp can't split the attention heads, which are split `ways` times (tp included), or None."""
    heads = getattr(config, "num_attention_heads", None)
    if cp == 1 or heads is None or heads % ways == 0:
        return None
    over = f"cp = {cp}" if cp == ways else f"cp = {cp} times tp = {ways // cp}"
    return f"{over} does not divide its {heads} attention heads"


def _takes(function: Callable[..., object], name: str) -> bool:
    """Return whether a function has a parameter of that name, or `**kwargs`."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def _tensor(module: nn.Module, name: str) -> Tensor:
    tensor = getattr(module, name)
    assert isinstance(tensor, Tensor)
    return tensor
