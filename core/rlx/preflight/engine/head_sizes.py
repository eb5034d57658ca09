"""Sizes of attention heads that the engine's attention can compute with.

vLLM finds an unsuited size when the first token is sampled, half a minute after the start. Each of its backends has a
method that returns the sizes, which is read as text here.
"""

from __future__ import annotations

import ast

from rlx.config.schema import Config
from rlx.errors import ConfigError
from rlx.platform import PLATFORMS
from rlx.plugins.resolve import find_module

METHOD = "get_supported_head_sizes"


def supported_head_sizes(backend: str) -> tuple[int, ...] | None:
    """Return the sizes that a backend of vLLM, as `module:class`, computes with; None if its source does not say so."""
    module, _, name = backend.partition(":")
    source = find_module(module)
    if source is None:
        return None
    classes = [node for node in ast.parse(source.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    parts = [part for node in classes if node.name == name for part in node.body]
    method = next((part for part in parts if getattr(part, "name", "") == METHOD), None)
    if method is None:
        return None
    returned = [node.value for node in ast.walk(method) if isinstance(node, ast.Return) and node.value is not None]
    try:
        (value,) = returned
        return tuple(int(size) for size in ast.literal_eval(value))
    except (ValueError, TypeError):  # several returns, or an expression
        return None


def check_head_size(config: Config, size: int, *, latent: bool) -> None:
    """Raise ConfigError if the engine's attention can't compute with heads of `size` entries.

    latent: True for multi-head latent attention, whose size is that of the entries in its cache.
    """
    platform = PLATFORMS[config.run.device]
    backend = platform.latent_attention if latent else platform.attention
    sizes = supported_head_sizes(backend) if backend is not None and size > 0 else None
    if not sizes or size in sizes:
        return
    what = "latent entries (kv_lora_rank + qk_rope_head_dim)" if latent else "attention heads (head_dim)"
    raise ConfigError(
        f"[model] path {config.model.path!r}: its {what} have the size {size}. vLLM's attention on device "
        f'"{platform.device}" computes with {", ".join(map(str, sorted(sizes)))} only, so engines can\'t sample. SFT '
        "needs no engine."
    )
