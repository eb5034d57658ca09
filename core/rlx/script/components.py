"""The components of a launch script, under the names that the config knows them by.

The rules of this part:

* Names follow from the script and the config alone, so every process finds the same ones: a dataset is called what
  `[dataset] name` says, a function by its own name.
* Where the config's own machinery calls a factory with `args`, what a script gave is wrapped so that it takes them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlx.config.schema import Config
from rlx.datasets.open import is_factory, run_objects
from rlx.errors import ConfigError
from rlx.plugins.registry import packer_name as model_packer_name
from rlx.plugins.signature import accepted, parameters
from rlx.script.launch_worker import ScriptParts

EVAL_SUFFIX = "-validation"


@dataclass(frozen=True)
class ScriptComponent:
    """One component. `part` is the argument of `launch_worker` that it came by."""

    kind: str
    name: str
    part: str
    component: Any


@dataclass(frozen=True)
class Weighted:
    """An item of `reward_fns`. `named`: it is the name of a reward, not a function."""

    name: str
    function: Any
    weight: float | None
    named: bool = False


def script_offers(parts: ScriptParts, config: Config) -> Iterator[ScriptComponent]:
    """Everything that the script gives by name. The order is that of `launch_worker`'s arguments."""
    if parts.dataset is not None:
        yield ScriptComponent("datasets", config.dataset.name, "dataset", _dataset(parts.dataset))
    if parts.val_dataset is not None and config.eval is not None:
        yield ScriptComponent("datasets", config.eval.dataset.name, "val_dataset", _dataset(parts.val_dataset))
    for part, packer in (("data_packer", parts.data_packer), ("val_data_packer", parts.val_data_packer)):
        if packer is not None:
            yield ScriptComponent("packers", packer_name(packer, part), part, _packer(packer, config))
    yield from _rewards(parts)
    for function, name in _named(parts.custom_logger_fns or ()):
        yield ScriptComponent("loggers", name, "custom_logger_fns", _logger(function))
    for hook, name in _named(parts.hooks or ()):
        yield ScriptComponent("hooks", name, "hooks", hook)
    for model_type, plugin in parts.models.items():
        yield ScriptComponent("models", model_type, "ModelRegistry.register_model", plugin)
        if plugin.packer is not None:
            yield ScriptComponent(
                "packers", model_packer_name(model_type), "ModelRegistry.register_model", plugin.packer
            )


def _rewards(parts: ScriptParts) -> Iterator[ScriptComponent]:
    seen: dict[str, Any] = {}
    for part in ("reward_fns", "val_reward_fns", "filter_reward_fns"):
        for item in weighted(parts, part):
            if not item.named and seen.setdefault(item.name, item.function) is item.function:
                yield ScriptComponent("rewards", item.name, part, item.function)
            elif not item.named:
                raise ConfigError(
                    f"launch_worker's {part}: {item.name!r} is another function than the one of that name in "
                    "reward_fns. Give it another name."
                )


def weighted(parts: ScriptParts, part: str) -> list[Weighted]:
    """A list of rewards, `reward_fns` or its like, with names and weights. Raises ConfigError for what is no reward."""
    pairs = [_pair(item, parts, part) for item in getattr(parts, part) or ()]
    names = [name for _, name in _named([function for function, _ in pairs])]
    return [
        Weighted(name, function, weight, named=isinstance(function, str))
        for name, (function, weight) in zip(names, pairs, strict=True)
    ]


def _pair(item: Any, parts: ScriptParts, part: str) -> tuple[Any, float | None]:
    function, weight = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
    if part == "filter_reward_fns" and isinstance(function, int) and function in range(len(parts.reward_fns or ())):
        function, _ = _pair((parts.reward_fns or ())[function], parts, "reward_fns")
    if not (callable(function) or isinstance(function, str)) or not isinstance(weight, int | float | None):
        numbers = ", numbers of reward_fns" if part == "filter_reward_fns" else ""
        raise ConfigError(
            f"launch_worker's {part}: {item!r:.80} is no reward. Give functions, names{numbers}, or pairs of one and a "
            "weight."
        )
    return function, None if weight is None else float(weight)


def packer_name(packer: Any, part: str) -> str:
    return f"{_own_name(packer)}{EVAL_SUFFIX if part.startswith('val_') else ''}"


def _named(things: Sequence[Any]) -> list[tuple[Any, str]]:
    """Each with a name of its own: `judge`, `judge-2`."""
    used: dict[str, int] = {}
    named = []
    for thing in things:
        name = _own_name(thing)
        used[name] = used.get(name, 0) + 1
        named.append((thing, name if used[name] == 1 else f"{name}-{used[name]}"))
    return named


def _own_name(thing: Any) -> str:
    if isinstance(thing, str):
        return thing
    name = getattr(thing, "__name__", None) or type(thing).__name__
    return "function" if name == "<lambda>" else str(name)


def _dataset(given: Any) -> Any:
    if not is_factory(given):
        return lambda config=None, **args: given  # noqa: ARG005 - `args` are for `setup` to read in the config

    def make(config: Any = None, tokenizer: Any = None, **args: Any) -> Any:
        filled = run_objects(given, config, tokenizer)
        if not filled and _wants_one(given):
            return given(config)
        return given(**filled, **accepted(given, args))

    return make


def _wants_one(factory: Callable[..., Any]) -> bool:
    """Whether it takes one thing by place, whatever that is called: the config."""
    needed = [
        p
        for p in parameters(factory)
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return len(needed) == 1


def _packer(given: Any, config: Config) -> Callable[..., Any]:
    """What makes the packer. An instance is made already; a class or function may take the config."""
    if hasattr(given, "get_rollout_input") and not inspect.isclass(given):
        return lambda: given
    if inspect.isclass(given):
        return given
    return lambda: given(config) if parameters(given) else given()


class FunctionLogger:
    """A `custom_logger_fns` function as a logger."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:  # noqa: ARG002 - a logger's signature
        self._function(dict(metrics), step)

    def close(self, summary: Mapping[str, Any]) -> None:
        """A function has nothing to close."""


def _logger(function: Callable[..., Any]) -> Callable[..., FunctionLogger]:
    def make(config: Config, run_dir: Path, steps: int) -> FunctionLogger:  # noqa: ARG001 - as loggers are made
        return FunctionLogger(function)

    return make
