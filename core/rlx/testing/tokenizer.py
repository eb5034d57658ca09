"""A tokenizer with one token per character, without transformers (public path of `stand_ins.tokenizer`)."""

from __future__ import annotations

from rlx.testing.stand_ins.tokenizer import CHARACTERS, CHAT_TEMPLATE, SPECIAL, CharTokenizer

__all__ = ["CHARACTERS", "CHAT_TEMPLATE", "SPECIAL", "CharTokenizer"]
