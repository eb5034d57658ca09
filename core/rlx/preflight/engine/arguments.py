"""Names and types of vLLM's engine arguments, read from its source, since importing vLLM takes seconds."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from rlx.config.errors import shown
from rlx.errors import ConfigError, UsageError, did_you_mean
from rlx.plugins.resolve import find_module
from rlx.preflight.checks.problems import Problems

MODULE = "vllm.engine.arg_utils"
CLASSES = ("EngineArgs", "AsyncEngineArgs")

_TYPES: Mapping[str, tuple[tuple[type, ...], str]] = MappingProxyType(
    {
        "bool": ((bool,), "true or false"),
        "int": ((int,), "an integer"),
        "float": ((int, float), "a number"),
        "str": ((str,), "text"),
        "dict": ((dict,), "a table"),
        "list": ((list,), "a list"),
        "set": ((list,), "a list"),
        "None": ((), ""),
    }
)
"""The annotations that are compared with a value's type -> the types of TOML that fit, and their name."""


@dataclass(frozen=True)
class _Unsupported:
    """An engine argument that rlx works with at one value only."""

    value: object
    why: str


_SHOWN = 60
_WHOLE_MODELS = "rlx trains and sends whole models, not adapters"
_UNSUPPORTED: Mapping[str, _Unsupported] = MappingProxyType(
    {
        "quantization": _Unsupported(None, "an engine with quantised weights can't receive the policy's"),
        "enable_lora": _Unsupported(False, _WHOLE_MODELS),
        "default_mm_loras": _Unsupported(None, _WHOLE_MODELS),
        "pipeline_parallel_size": _Unsupported(
            1, "weights are sent to the workers of [rollout] tensor_parallel, which all hold a part of every layer"
        ),
        "data_parallel_size": _Unsupported(1, "use [rollout] replicas"),
        "nnodes": _Unsupported(1, "all workers of an engine are on one machine"),
        "override_generation_config": _Unsupported(
            {},
            "completions are sampled with the temperature and max_tokens of [rollout] and [eval], from the whole "
            "vocabulary, which the trainer's log-probabilities count on",
        ),
    }
)


def engine_argument_types() -> Mapping[str, str]:
    """Return the annotation of each engine argument by its name. Raises UsageError if vLLM is not installed."""
    text = _source().read_text(encoding="utf-8")
    classes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    return {
        field.target.id: ast.unparse(field.annotation)
        for node in classes
        if node.name in CLASSES
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }


def _source() -> Path:
    source = find_module(MODULE)
    if source is None:
        raise UsageError("vLLM, which samples the completions, is not installed: see docs/installation.md.")
    return source


def check_engine_arguments(arguments: Mapping[str, object], problems: Problems) -> Mapping[str, object]:
    """Add a problem for each key of `[rollout.vllm]` that vLLM or rlx can't use, or whose value has another type.

    Return the others.
    """
    if not arguments:
        problems.attempt(_source)  # parsing it takes a tenth of a second
        return {}
    known = problems.attempt(engine_argument_types)
    if known is None:
        return {}
    found = {name: _problem(name, value, known) for name, value in arguments.items()}
    for name, problem in found.items():
        if problem:
            problems.add(ConfigError(f"[rollout.vllm] {name}{problem}"))
    return {name: value for name, value in arguments.items() if not found[name]}


def _problem(name: str, value: object, known: Mapping[str, str]) -> str:
    if name not in known:
        return f": vLLM has no such engine argument.{did_you_mean(name, known)}"
    unsupported = _UNSUPPORTED.get(name)
    if unsupported is not None and value != unsupported.value:
        return f" = {written(value)}: rlx can't work with it: {unsupported.why}."
    types = [part.partition("[")[0] for part in known[name].split(" | ")]
    # An annotation with any other part can't be compared.
    if all(part in _TYPES for part in types) and not any(type(value) in _TYPES[part][0] for part in types):
        expected = " or ".join(dict.fromkeys(_TYPES[part][1] for part in types if part != "None"))
        return f": expected {expected}, got {shown(value)}"
    # vLLM takes any number, and runs out of memory, or has none, once it has read the weights.
    if name == "kv_cache_memory_bytes" and isinstance(value, int) and value < 1:
        return f": must be at least 1, got {value}"
    return ""


def written(value: object) -> str:
    """Return a value nearly as in TOML, in a few words."""
    return f'"{value[:_SHOWN]}"' if isinstance(value, str) else shown(value)
