"""The names of vLLM's engine arguments, read from its source, since importing vLLM takes seconds."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from rlx.errors import ConfigError, UsageError, did_you_mean
from rlx.plugins.resolve import find_module
from rlx.preflight.problems import Problems

MODULE = "vllm.engine.arg_utils"
CLASSES = ("EngineArgs", "AsyncEngineArgs")


def engine_argument_names() -> frozenset[str]:
    """Return the names of all engine arguments. Raises UsageError if vLLM is not installed."""
    source = find_module(MODULE)
    if source is None:
        raise UsageError("vLLM, which samples the completions, is not installed: see docs/installation.md.")
    classes = [node for node in ast.parse(source.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    return frozenset(
        field.target.id
        for node in classes
        if node.name in CLASSES
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    )


def check_engine_arguments(names: Iterable[str], problems: Problems) -> None:
    """Add a problem for each key of `[rollout.vllm]` that vLLM does not have."""
    known = problems.attempt(engine_argument_names)
    for name in names:
        if known is not None and name not in known:
            text = f"[rollout.vllm] {name}: vLLM has no such engine argument.{did_you_mean(name, known)}"
            problems.add(ConfigError(text))
