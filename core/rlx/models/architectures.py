"""Facts about architectures: those that can't be trained by RL, and why; their dropout, and their longest sequence.

Rule: an entry of `_ENGINE` is there because it was seen (`tests/long/matrix.py`), and its reason is what was seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from rlx.config.schema import Config
from rlx.errors import ConfigError
from rlx.models.base_model import HFConfig
from rlx.models.rope import rope_limit

_ENGINE: Mapping[str, str] = MappingProxyType({})
"""`model_type` -> why a vLLM engine can't have the policy's weights."""
_CPU_ENGINE: Mapping[str, str] = MappingProxyType({})
"""The same for engines on a CPU."""
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
    """Raise ConfigError if vLLM can't run the model, or can't get the policy's weights."""
    model_type = hf_config.model_type
    reason = _ENGINE.get(model_type) or (_CPU_ENGINE.get(model_type) if config.run.device == "cpu" else None)
    if reason is not None:
        raise ConfigError(f"[model] path {config.model.path!r} is a model of the type {model_type!r}: {reason}")


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
