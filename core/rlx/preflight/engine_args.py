"""The names of vLLM's engine arguments, read from its source: importing vLLM takes seconds."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from rlx.errors import ConfigError, UsageError, did_you_mean
from rlx.plugins.source import find_module

MODULE = "vllm.engine.arg_utils"
CLASSES = ("EngineArgs", "AsyncEngineArgs")


def engine_arguments() -> frozenset[str]:
    """Raises UsageError where vLLM is not installed."""
    source = find_module(MODULE)
    if source is None:
        raise UsageError(
            "vLLM is not installed, and completions are sampled by it: docs/installation.md has what to install."
        )
    classes = [node for node in ast.parse(source.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    return frozenset(name for node in classes if node.name in CLASSES for name in _fields(node))


def _fields(node: ast.ClassDef) -> list[str]:
    return [
        part.target.id for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
    ]


def check_engine_arguments(names: Iterable[str]) -> None:
    """Raises ConfigError for a key of `[rollout.vllm]` that vLLM does not have."""
    known = engine_arguments()
    for name in names:
        if name not in known:
            raise ConfigError(f"[rollout.vllm] {name}: vLLM has no such engine argument.{did_you_mean(name, known)}")
