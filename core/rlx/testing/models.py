"""Tiny Hugging Face models and a character tokenizer for transformers (public path of `stand_ins.models`)."""

from __future__ import annotations

from rlx.testing.stand_ins.models import SHAPE, make_char_model, make_tiny_model, save_char_tokenizer

__all__ = ["SHAPE", "make_char_model", "make_tiny_model", "save_char_tokenizer"]
