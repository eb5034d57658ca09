"""The built-in model plugin `hf`, which trains any causal LM of transformers (hf.py)."""

from __future__ import annotations
