"""Facts about a model from its config.json and the headers of its safetensors files, without loading it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlx.config.sections.model import ModelConfig
from rlx.errors import ConfigError, UsageError, first_line


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A model before it is loaded. A number that config.json does not give is None."""

    model_type: str
    parameters: int | None = None
    """None if its weights are not on this machine yet."""
    attention_heads: int | None = None
    kv_heads: int | None = None
    context: int | None = None
    """Longest sequence that it supports, in tokens."""
    vocabulary: int | None = None
    """Entries of its embedding."""
    quantised: bool = False
    """Whether its weights are quantised, by config.json."""
    architectures: tuple[str, ...] = ()
    """Names of its classes, by config.json; vLLM goes by the first that it has."""
    head_size: int | None = None
    """Entries of an attention head; None if config.json alone doesn't give it, as for latent attention."""
    only_config: bool = False
    """Whether its folder has neither weights nor a tokenizer: enough to check a run, not to start one."""


def model_facts(model: ModelConfig) -> ModelFacts:
    """Read the facts.

    Raises UsageError if the folder or Hub name, its config.json or the model_type in that doesn't exist, or if a folder
    has a tokenizer but no weights.
    """
    folder = Path(model.path)
    local = folder.is_dir()
    config = _read_config(folder / "config.json") if local else _hub_config(model)
    if local and model.revision is not None:
        raise ConfigError(
            f"[model] revision = {model.revision!r}: only a model on the Hub has revisions, and [model] path = "
            f"{model.path!r} is a folder. Leave the revision out, or give the model's Hub name."
        )
    only_config = local and not any([*folder.glob("*.safetensors*"), *folder.glob("tokenizer*")])
    text: dict[str, Any] = config.get("text_config") or config
    if not isinstance(config.get("model_type"), str):
        raise UsageError(
            f"[model] path {model.path!r}: its config.json names no model_type, so it isn't a language model."
        )
    heads, classes = _number(text, "num_attention_heads"), config.get("architectures")
    return ModelFacts(
        model_type=config["model_type"],
        parameters=count_parameters(folder) if local and not only_config else None,
        attention_heads=heads,
        kv_heads=_number(text, "num_key_value_heads") or heads,
        context=_number(text, "max_position_embeddings"),
        vocabulary=_number(text, "vocab_size"),
        quantised=bool(config.get("quantization_config")),
        architectures=tuple(name for name in classes if isinstance(name, str)) if isinstance(classes, list) else (),
        head_size=_head_size(text),
        only_config=only_config,
    )


_WITHOUT_HEAD_DIM = frozenset(
    {"llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3_moe", "phi", "phi3", "olmo2"}
)
"""Types of models whose heads share the hidden size if config.json has no head_dim. Others have their own default."""


def _head_size(text: dict[str, Any]) -> int | None:
    # Latent attention has a size of its own; models without attention may call something else a head.
    if "kv_lora_rank" in text or "num_attention_heads" not in text:
        return None
    if (size := _number(text, "head_dim")) is not None:
        return size
    hidden, heads = _number(text, "hidden_size"), _number(text, "num_attention_heads")
    return hidden // heads if hidden and heads and text.get("model_type") in _WITHOUT_HEAD_DIM else None


def count_parameters(folder: Path) -> int:
    """Return the number of entries of all tensors of a folder. Raises UsageError if a file is missing or damaged."""
    from rlx.policy.weights.hf_folder import read_headers

    return sum(math.prod(shape) for _, _, shape in read_headers(folder))


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UsageError(
            f"[model] path {str(path.parent)!r}: the folder has no config.json, so it isn't a Hugging Face model. "
            "A folder that `save_pretrained` wrote has one."
        ) from error
    except ValueError as error:
        raise UsageError(f"[model] path: {path} isn't JSON: {error}") from error
    if not isinstance(config, dict):
        raise UsageError(f"[model] path: {path} isn't a JSON object.")
    return config


def _hub_config(model: ModelConfig) -> dict[str, Any]:
    # A Hub name is `owner/name` or `name`; anything else is meant as a folder.
    if model.path.startswith((".", "/", "~")) or model.path.endswith("/") or model.path.count("/") > 1:
        raise UsageError(f"[model] path: the folder {model.path!r} does not exist (looked for from {Path.cwd()}).")
    from transformers.utils.hub import cached_file

    try:
        found = cached_file(model.path, "config.json", revision=model.revision)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"[model] path {model.path!r}: it isn't a folder, and the Hub gives no model of that name: "
            f"{first_line(error)}"
        ) from error
    return _read_config(Path(found))


def _number(config: dict[str, Any], key: str) -> int | None:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
