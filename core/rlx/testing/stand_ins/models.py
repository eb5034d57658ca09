"""Tiny models: real Hugging Face folders that transformers and vLLM can load, made without network.

Rule: a folder is complete (config, weights, tokenizer), and the same arguments give the same folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

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
