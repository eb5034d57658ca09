"""Models that can be checked by arithmetic: dense Llama, Qwen2 and Qwen3 with a config.json that asks for nothing else.

Building such a network only to compare names and shapes takes most of the time of `rlx check`, since it imports torch
and transformers. So the tensors of these architectures are written down here, and a checkpoint that holds exactly those
is known to fit. Any other is left to the model's plugin, which also says what is wrong with it.

Rule: whatever isn't known to be harmless makes a model not plain: a key, a value, a tensor.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

Shape = tuple[int, ...]

_FLOATS = frozenset({"F32", "F16", "BF16"})
_LARGEST, _MOST_LAYERS = 10_000_000, 1_000
"""Sizes from these on are none of a model that exists."""
_ARCHITECTURES: Mapping[str, str] = MappingProxyType(
    {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
)


@dataclass(frozen=True)
class PlainModel:
    """The tensors of a plain model, by their names in a checkpoint."""

    layer: Mapping[str, Shape]
    """Of one decoder layer."""
    layers: int
    surroundings: Mapping[str, Shape]
    """Outside of the decoder layers."""

    @property
    def tensors(self) -> dict[str, Shape]:
        named = dict(self.surroundings)
        for index in range(self.layers):
            named |= {f"model.layers.{index}.{name}": shape for name, shape in self.layer.items()}
        return named

    def fits(self, headers: Iterable[tuple[str, str, Sequence[int]]]) -> bool:
        """Return whether a checkpoint holds exactly these tensors, as floating-point numbers.

        headers: name, dtype as safetensors writes it (`F32`), and shape of each tensor of the checkpoint.
        """
        entries = [(name, dtype, tuple(shape)) for name, dtype, shape in headers]
        held = {name: shape for name, _, shape in entries}
        return len(held) == len(entries) and {dtype for _, dtype, _ in entries} <= _FLOATS and held == self.tensors

    @property
    def layer_parameters(self) -> int:
        """Entries of all tensors of a layer."""
        return sum(map(math.prod, self.layer.values()))

    @property
    def other_parameters(self) -> int:
        """Entries of all tensors outside of the layers."""
        return sum(map(math.prod, self.surroundings.values()))


def plain_model(folder: Path) -> PlainModel | None:
    """Return the model that a folder's config.json describes if it is a plain one."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if (
        not isinstance(config, dict)
        or not all(key in _KEYS and _KEYS[key](value, config) for key, value in config.items())
        or not set(config) >= _REQUIRED
    ):
        return None
    kind, hidden, heads = config["model_type"], config["hidden_size"], config["num_attention_heads"]
    kv_heads, inner, vocabulary = config["num_key_value_heads"], config["intermediate_size"], config["vocab_size"]
    if config["architectures"] != [_ARCHITECTURES[kind]] or heads % kv_heads or hidden % heads:
        return None
    if kind == "qwen3" and not config.get("head_dim"):  # Qwen3's default is a number of its own
        return None
    size = config.get("head_dim") or hidden // heads
    layer = {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (heads * size, hidden),
        "self_attn.k_proj.weight": (kv_heads * size, hidden),
        "self_attn.v_proj.weight": (kv_heads * size, hidden),
        "self_attn.o_proj.weight": (hidden, heads * size),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
    }
    if kind == "qwen2":
        layer |= {f"self_attn.{name}_proj.bias": layer[f"self_attn.{name}_proj.weight"][:1] for name in "qkv"}
    if kind == "qwen3":
        layer |= {"self_attn.q_norm.weight": (size,), "self_attn.k_norm.weight": (size,)}
    surroundings: dict[str, Shape] = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    if not config["tie_word_embeddings"]:
        surroundings["lm_head.weight"] = (vocabulary, hidden)
    return PlainModel(layer, config["num_hidden_layers"], surroundings)


def _is_size(value: Any, _config: Mapping[str, Any]) -> bool:
    return type(value) is int and 0 < value < _LARGEST


def _is_number(value: Any, _config: Mapping[str, Any]) -> bool:
    return type(value) in (int, float) and value > 0


def _is_token(value: Any, config: Mapping[str, Any]) -> bool:
    tokens = value if isinstance(value, list) else [value]
    vocabulary = config.get("vocab_size")
    return value is None or all(type(token) is int and 0 <= token < (vocabulary or 0) for token in tokens)


def _is_one_of(*values: Any) -> Callable[[Any, Mapping[str, Any]], bool]:
    return lambda value, _config: any(value == one and type(value) is type(one) for one in values)


_REQUIRED = frozenset(
    {"model_type", "architectures", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"}
    | {"num_attention_heads", "num_key_value_heads", "max_position_embeddings", "tie_word_embeddings", "hidden_act"}
)
_KEYS: Mapping[str, Callable[[Any, Mapping[str, Any]], bool]] = MappingProxyType(
    {
        "model_type": _is_one_of(*_ARCHITECTURES),
        "architectures": lambda value, _config: isinstance(value, list),
        **dict.fromkeys(
            ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"), _is_size
        ),
        "num_hidden_layers": lambda value, _config: type(value) is int and 0 < value < _MOST_LAYERS,
        "max_position_embeddings": _is_size,
        "head_dim": lambda value, config: value is None or _is_size(value, config),
        "tie_word_embeddings": _is_one_of(True, False),
        "hidden_act": _is_one_of("silu"),
        "attention_bias": _is_one_of(False),
        "mlp_bias": _is_one_of(False),
        "attention_dropout": _is_one_of(0.0, 0),
        "pretraining_tp": _is_one_of(1),
        "rms_norm_eps": _is_number,
        "initializer_range": _is_number,
        "rope_theta": _is_number,
        "rope_scaling": _is_one_of(None),
        "rope_parameters": lambda value, config: (
            isinstance(value, dict)
            and set(value) == {"rope_theta", "rope_type"}
            and value["rope_type"] == "default"
            and _is_number(value["rope_theta"], config)
        ),
        "sliding_window": lambda value, config: value is None or not config.get("use_sliding_window", True),
        "use_sliding_window": _is_one_of(False),
        "max_window_layers": _is_size,
        "layer_types": lambda value, config: (
            isinstance(value, list)
            and len(value) == config.get("num_hidden_layers")
            and set(value) == {"full_attention"}
        ),
        "use_cache": _is_one_of(True, False),
        "dtype": _is_one_of("float32", "bfloat16", "float16"),
        "torch_dtype": _is_one_of("float32", "bfloat16", "float16"),
        "transformers_version": lambda value, _config: isinstance(value, str),
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), _is_token),
    }
)
"""Key of config.json -> whether its value, beside the others, is one of a plain model."""
