"""Facts about architectures: those that can't be trained by RL, and why; their dropout, and their longest sequence.

Rule: a refusal is here because it was seen (`tests/long/matrix.py`), and its reason is what was seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rlx.config.schema import Config
from rlx.errors import ConfigError
from rlx.models.rope import rope_limit
from rlx.models.select import DEFAULT_MODEL_PLUGIN

if TYPE_CHECKING:
    from rlx.models.base_model import HFConfig

DEFAULT_CONTEXT = 2048
"""vLLM's own default for a model that doesn't give its longest sequence."""
_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
"""The attributes of a config in which vLLM looks for the longest sequence."""
_DROPOUT = re.compile(r"(^|_)(p?drop|drop_?out|layerdrop)")
_OTHER_HEADS = re.compile(r"^(classifier|summary|cls)_")


def check_engine_support(config: Config, hf_config: HFConfig) -> None:
    """Raise ConfigError if vLLM can't run the model, can't get the policy's weights, or computes something else."""
    for rule in (_gpt_oss, _mixed_windows, _wider_windows, _on_cpu):
        if (reason := rule(config, hf_config.get_text_config())) is not None:
            raise ConfigError(
                f"[model] path {config.model.path!r} ({hf_config.model_type}) can't be trained by RL: {reason}"
            )


def _gpt_oss(_: Config, model: HFConfig) -> str | None:
    if model.model_type != "gpt_oss":
        return None
    return (
        "vLLM's loader for gpt_oss writes attention sinks and experts past the reload by which running engines get "
        "weights. SFT can train it."
    )


def _mixed_windows(_: Config, model: HFConfig) -> str | None:
    """VLLM's Qwen2, which Qwen3 derives from, asserts that all layers or none have windows."""
    kinds = set(getattr(model, "layer_types", None) or ())
    if model.model_type not in {"qwen2", "qwen3"} or kinds != {"full_attention", "sliding_attention"}:
        return None
    if model.max_window_layers == model.num_hidden_layers:
        return None
    return (
        f"vLLM does not support sliding windows in some layers and not in others (max_window_layers = "
        f"{model.max_window_layers} of {model.num_hidden_layers} layers). SFT can train it."
    )


def _wider_windows(config: Config, model: HFConfig) -> str | None:
    """VLLM's Cohere 2 attends to one token more than transformers' does, which matters in longer sequences."""
    if model.model_type not in {"cohere2", "cohere2_moe"}:
        return None
    window, overrides = model.sliding_window, config.rollout.vllm.get("hf_overrides")
    given = config.rollout.vllm.get("max_model_len")
    longest = given if isinstance(given, int) and given > 0 else model.max_position_embeddings
    narrowed = isinstance(overrides, Mapping) and overrides.get("sliding_window") == window - 1
    if narrowed or longest <= window:
        return None
    return (
        f"vLLM's sliding windows have one token more than the {window} of its config.json. Set [rollout.vllm] "
        f"max_model_len to at most {window}, or hf_overrides = {{ sliding_window = {window - 1} }}."
    )


def _on_cpu(config: Config, model: HFConfig) -> str | None:
    """On a CPU, vLLM's kernel for gated delta nets takes bfloat16 only, and that for short convolutions is inexact."""
    if config.run.device != "cpu":
        return None
    dtype = config.rollout.dtype or config.policy.dtype
    if "linear_attention" in (getattr(model, "layer_types", None) or ()) and dtype != "bfloat16":
        return (
            f"on a CPU, vLLM computes its linear_attention layers in bfloat16 only, not in {dtype}. "
            'Set [rollout] dtype = "bfloat16".'
        )
    if model.model_type in {"lfm2", "lfm2_moe"}:
        return (
            "on a CPU, vLLM computes other log-probabilities than transformers with the same weights (by 0.16 on "
            "average, for a small random model). SFT can train it."
        )
    return None


def context_given(hf_config: HFConfig) -> bool:
    """Return whether the model's config gives the longest sequence of an engine."""
    config = hf_config.get_text_config()
    return any(getattr(config, key, None) is not None for key in _CONTEXT_KEYS)


def check_row_length(config: Config, hf_config: HFConfig) -> None:
    """Raise ConfigError if SFT rows may have rotary frequencies that depend on the rows that are computed with them."""
    limit, longest = rope_limit(hf_config), config.policy.max_sequence_tokens
    if limit is not None and longest is not None and longest > limit.tokens:
        raise ConfigError(
            f"[policy] max_sequence_tokens = {longest}: the model has rotary frequencies of the type {limit.kind!r}, "
            f"which a row of more than {limit.tokens} tokens changes for all rows that are computed with it. "
            f"Set at most {limit.tokens}."
        )


def check_engine_rope(config: Config, hf_config: HFConfig) -> None:
    """Raise ConfigError if engines would scale rotary frequencies that the policy doesn't."""
    limit = rope_limit(hf_config)
    if limit is None:
        return
    given = config.rollout.vllm.get("max_model_len")
    longest = given if isinstance(given, int) and given > 0 else limit.engine_tokens
    if longest > limit.tokens:
        setting = f"max_model_len = {longest}" if longest == given else f"max_model_len ({longest} by default)"
        raise ConfigError(
            f"[rollout.vllm] {setting}: the model has rotary frequencies of the type {limit.kind!r}, which engines "
            f"scale for every sequence if they allow more than {limit.tokens} tokens, and the policy for longer "
            f"sequences only. Set at most {limit.tokens}."
        )


def attention_notes(config: Config, hf_config: HFConfig) -> Iterator[str]:
    """Yield a note of the attention that transformers' models get in place of their default."""
    cap = getattr(hf_config.get_text_config(), "attn_logit_softcapping", None)
    if cap is not None and config.policy.attention is None and config.model.plugin in {None, DEFAULT_MODEL_PLUGIN}:
        yield (
            "Training computes attention with `eager`, since sdpa leaves out the model's soft cap of attention scores "
            f"(attn_logit_softcapping = {cap:g})."
        )


def engine_notes(hf_config: HFConfig) -> Iterator[str]:
    """Yield a note of small differences between vLLM and transformers."""
    if hf_config.model_type == "bloom":
        yield (
            "vLLM computes bloom's GELU exactly, transformers by an approximation with tanh: log-probabilities differ "
            "by 1e-4 or so. [sync] max_logprob_diff may have to be larger than its default in float32."
        )


def dropout_notes(config: Config, hf_config: HFConfig, *, rollouts: bool) -> Iterator[str]:
    """Yield a note of what training does with the dropout of the model's config, if it has any."""
    rates = ", ".join(f"{name} = {rate:g}" for name, rate in dropout_rates(hf_config).items())
    applied = not rollouts if config.policy.dropout is None else config.policy.dropout
    if rates and applied:
        yield f"Training applies the model's dropout ({rates}). [policy] dropout = false leaves it out."
    elif rates:
        yield f"Training leaves out the model's dropout ({rates}). [policy] dropout = true applies it."


def dropout_rates(hf_config: HFConfig) -> dict[str, float]:
    """Return the entries of a model's config that drop values at random in training, with their rates."""
    values = hf_config.get_text_config().to_dict()
    return {
        name: float(value)
        for name, value in sorted(values.items())
        if isinstance(value, (int, float)) and value and _DROPOUT.search(name) and not _OTHER_HEADS.match(name)
    }
