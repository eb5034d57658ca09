"""What a model allows: packed rows, and logits that can be computed a chunk of the vocabulary at a time.

The rules of this part:

* The config is asked first: a window, a soft cap, sinks, a position bias or a recurrent layer rule packing out.
* Then the model itself (`verify`): two forwards on a few random tokens must agree. What cannot be shown to be equal is
  not used: without packing, rows are padded; without a known head, the model computes its own logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlx.policy import attention
from rlx.policy.logprobs import Head

if TYPE_CHECKING:
    from torch import nn


def packing_refusal(causal_lm: nn.Module) -> str | None:
    """Why this model cannot run on packed rows; None where it can, as far as its config tells."""
    from transformers import PreTrainedModel

    if not isinstance(causal_lm, PreTrainedModel):
        return "it is not a transformers model"
    if not getattr(causal_lm, "_supports_attention_backend", False):
        return "its attention cannot be replaced"
    config = causal_lm.config.get_text_config()
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


def supports_packing(causal_lm: nn.Module) -> bool:
    """Whether the model may run on packed rows, as far as its config tells; `PolicyModel.verify` measures it."""
    return packing_refusal(causal_lm) is None


def use_packing(causal_lm: Any) -> None:
    """Switch a model that supports it to the packed attention (which does padded rows too)."""
    attention.register()
    causal_lm.set_attn_implementation(attention.NAME)


def head_of(causal_lm: nn.Module) -> Head | None:
    """How the model makes logits of its last hidden states, as far as its config tells; None where that is unknown."""
    from transformers import PreTrainedModel

    output = causal_lm.get_output_embeddings() if isinstance(causal_lm, PreTrainedModel) else None
    if output is None or getattr(output, "weight", None) is None:
        return None
    config = causal_lm.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    return Head(output.weight, getattr(output, "bias", None), scale, getattr(config, "final_logit_softcapping", None))
