"""Model plugins that exist outside of rlx, so that a user who needs one is told its name.

Data, read where a message is written; nothing else depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

MODELS: Mapping[str, str] = MappingProxyType({"deepseek_v3": "rlx-plugin-deepseek"})
"""`model_type` -> the distribution that is made for it."""


def model_hint(model_type: str) -> str | None:
    """What to install for a model; None where nothing is known."""
    return f"`pip install {MODELS[model_type]}` brings a plugin for {model_type}." if model_type in MODELS else None
