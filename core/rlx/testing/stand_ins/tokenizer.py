"""A tokenizer with one token per character, without transformers: a plugin's tests need nothing but rlx.

It makes the same ids as the tokenizer of `rlx.testing.models.save_char_tokenizer` in transformers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

CHARACTERS = "0123456789+-*/=() .,abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ?!:'\n"

CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)

SPECIAL = ("<pad>", "<eos>", "<unk>")
_TOKEN = re.compile(r"<pad>|<eos>|<unk>|[\s\S]")


class CharTokenizer:
    """One token per character. Ids: 0 pad, 1 end of text, 2 unknown, then those of CHARACTERS.

    Implements the part of a Hugging Face tokenizer that rlx and most packers use.
    """

    pad_token, eos_token, unk_token = SPECIAL
    pad_token_id, eos_token_id, unk_token_id = 0, 1, 2
    bos_token = None
    bos_token_id = None
    chat_template = CHAT_TEMPLATE
    name_or_path = "rlx.testing.CharTokenizer"
    vocab_size = 128

    def __init__(self) -> None:
        words = [*SPECIAL, *CHARACTERS]
        self._words = words + [f"<unused{i}>" for i in range(self.vocab_size - len(words))]
        self._ids = {word: i for i, word in enumerate(words)}

    def __len__(self) -> int:
        return self.vocab_size

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:  # noqa: ARG002 - it adds none
        return [self._ids.get(token, self.unk_token_id) for token in _TOKEN.findall(text)]

    def __call__(self, text: str, add_special_tokens: bool = True, **_: object) -> dict[str, list[int]]:
        ids = self.encode(text, add_special_tokens)
        return {"input_ids": ids, "attention_mask": [1] * len(ids)}

    def decode(self, token_ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        ids = [int(token) for token in token_ids]
        return "".join(self._words[i] for i in ids if not (skip_special_tokens and i < len(SPECIAL)))

    def batch_decode(self, sequences: Iterable[Iterable[int]], skip_special_tokens: bool = False) -> list[str]:
        return [self.decode(sequence, skip_special_tokens) for sequence in sequences]

    def apply_chat_template(
        self,
        conversation: Sequence[Mapping[str, object]],
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = True,
        return_dict: bool = True,
        **_: object,
    ) -> str | list[int] | dict[str, list[int]]:
        """Render a conversation by CHAT_TEMPLATE, as text or tokenized."""
        text = "".join(f"{message['role']}: {message['content']}\n" for message in conversation)
        if continue_final_message:
            text = text.removesuffix("\n")
        text += "assistant: " * add_generation_prompt
        if not tokenize:
            return text
        return self(text) if return_dict else self.encode(text)
