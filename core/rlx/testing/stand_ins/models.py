"""Tiny models: real Hugging Face folders that transformers and vLLM can load, made without network.

Rule: a folder is complete (config, weights, tokenizer), and the same arguments give the same folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from rlx.errors import UsageError, described, did_you_mean
from rlx.testing.stand_ins.tokenizer import CHARACTERS, SPECIAL

SHAPE: Mapping[str, int | bool] = MappingProxyType(
    {
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    }
)
"""About 0.8 million parameters at a vocabulary of 128."""


def save_char_tokenizer(path: Path, *, vocab_size: int = 128, chat_template: str | None = None) -> int:
    """Write a tokenizer with one token per character, and return the id of its end-of-text token.

    Ids: 0 pad, 1 end of text, 2 unknown, then CHARACTERS, then unused fillers up to `vocab_size`.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *CHARACTERS]
    words += [f"<unused{i}>" for i in range(vocab_size - len(words))]
    assert len(words) == vocab_size, f"a vocabulary of {vocab_size} is too small for {len(words)} words"
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=512
    )
    if chat_template is not None:
        fast.chat_template = chat_template
    fast.save_pretrained(path)
    return 1


EXTRA: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "qwen3_moe": {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 96},
        "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
        "deepseek_v3": {
            "head_dim": 32,
            "num_key_value_heads": 4,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "n_group": 1,
            "topk_group": 1,
            "moe_intermediate_size": 96,
            "first_k_dense_replace": 1,
            "q_lora_rank": None,
            "kv_lora_rank": 32,
            "qk_rope_head_dim": 32,
            "qk_nope_head_dim": 32,
            "v_head_dim": 32,
            "tie_word_embeddings": False,
        },
    }
)
"""`model_type` -> the fields of its config that would make it large, and those that SHAPE has not."""


def make_tiny_model(
    path: Path | str, architecture: str, *, seed: int = 0, chat_template: str | None = None, **shape: object
) -> int:
    """Write a character-level model with random float32 weights to `path`, and return its number of parameters.

    architecture: a `model_type` of transformers. shape: fields of its config, over those of SHAPE and EXTRA.

    Raises UsageError if transformers has no such causal language model, or none of that shape.
    """
    import torch
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

    if architecture not in CONFIG_MAPPING or CONFIG_MAPPING[architecture] not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UsageError(
            f"transformers has no causal language model of the type {architecture!r}."
            f"{did_you_mean(architecture, list(CONFIG_MAPPING))}"
        )
    folder = Path(path)
    given = {**SHAPE, **EXTRA.get(architecture, {}), **shape}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            config = CONFIG_MAPPING[architecture](
                vocab_size=128, eos_token_id=1, pad_token_id=0, bos_token_id=None, **given
            )
            model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
        except Exception as error:  # the boundary to transformers, whose errors have no common base
            raise UsageError(
                f"transformers can't make a {architecture!r} of this shape: {described(error)}\n"
                f"The shape: {', '.join(f'{name} = {value}' for name, value in given.items())}."
            ) from error
    folder.mkdir(parents=True, exist_ok=True)
    save_char_tokenizer(folder, chat_template=chat_template)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 1, 0
    model.save_pretrained(folder)
    return int(model.num_parameters())


def make_char_model(
    path: Path | str,
    *,
    seed: int = 0,
    vocab_size: int = 128,
    chat_template: str | None = None,
    **shape: object,
) -> Path:
    """Write a character-level Qwen3 with random float32 weights to `path`, and return it.

    `shape` overrides fields of the Qwen3Config, by default those of SHAPE.
    """
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    eos = save_char_tokenizer(folder, vocab_size=vocab_size, chat_template=chat_template)
    ids = {"eos_token_id": eos, "pad_token_id": 0, "bos_token_id": None}
    config = Qwen3Config(vocab_size=vocab_size, **ids, **{**SHAPE, **shape})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    model.generation_config.eos_token_id = eos
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    return folder
