"""The components of a launch script, under the names by which the config knows them.

Rules:

* Names follow from the script and the config alone, so every process finds the same ones: a dataset has the name in
  `[dataset] name`, a function its own.
* rlx calls factories with the config's `args`. A component that does not take them is wrapped.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from rlx.config.schema import Config
from rlx.datasets.open import is_factory, run_objects
from rlx.errors import ConfigError
from rlx.packers.tokenizer import Tokenizer
from rlx.plugins.registry import model_packer_name
from rlx.plugins.signature import accepted, parameters
from rlx.script.launch_worker import CustomLogger, ScriptParts

EVAL_SUFFIX = "-validation"

Factory = Callable[..., object]
Thing = TypeVar("Thing")


@dataclass(frozen=True)
class ScriptComponent:
    """One component. `part` is the argument of `launch_worker` that gave it."""

    kind: str
    name: str
    part: str
    component: object


@dataclass(frozen=True)
class WeightedReward:
    """An item of `reward_fns`, or of a list like it."""

    name: str
    reward: object
    """A function, or the name of a reward of the config."""
    weight: float | None

    @property
    def named(self) -> bool:
        """Whether it is a name, not a function."""
        return isinstance(self.reward, str)


def script_components(parts: ScriptParts, config: Config) -> Iterator[ScriptComponent]:
    """Yield all components of a script, in the order of `launch_worker`'s arguments."""
    if parts.dataset is not None:
        yield ScriptComponent("datasets", config.dataset.name, "dataset", _dataset(parts.dataset))
    if parts.val_dataset is not None and config.eval is not None:
        yield ScriptComponent("datasets", config.eval.dataset.name, "val_dataset", _dataset(parts.val_dataset))
    for part, packer in (("data_packer", parts.data_packer), ("val_data_packer", parts.val_data_packer)):
        if packer is not None:
            yield ScriptComponent("packers", script_packer_name(packer, part), part, _packer(packer, config))
    yield from _rewards(parts)
    for function, name in _with_names(parts.custom_logger_fns or ()):
        yield ScriptComponent("loggers", name, "custom_logger_fns", partial(FunctionLogger, function))
    for hook, name in _with_names(parts.hooks or ()):
        yield ScriptComponent("hooks", name, "hooks", hook)
    part = "ModelRegistry.register_model"
    for model_type, plugin in parts.models.items():
        yield ScriptComponent("models", model_type, part, plugin)
        if plugin.packer is not None:
            yield ScriptComponent("packers", model_packer_name(model_type), part, plugin.packer)


def _rewards(parts: ScriptParts) -> Iterator[ScriptComponent]:
    seen: dict[str, object] = {}
    for part in ("reward_fns", "val_reward_fns", "filter_reward_fns"):
        for item in weighted_rewards(parts, part):
            if item.named:
                continue
            if seen.setdefault(item.name, item.reward) is not item.reward:
                raise ConfigError(
                    f"launch_worker's {part}: {item.name!r} is another function than the one of that name in "
                    "reward_fns. Give it another name."
                )
            yield ScriptComponent("rewards", item.name, part, item.reward)


def weighted_rewards(parts: ScriptParts, part: str) -> list[WeightedReward]:
    """Return the rewards of `reward_fns` (or a list like it), with names and weights.

    Raises ConfigError for an item that isn't a reward.
    """
    pairs = [_reward_and_weight(item, parts, part) for item in getattr(parts, part) or ()]
    names = [name for _, name in _with_names([reward for reward, _ in pairs])]
    return [WeightedReward(name, reward, weight) for name, (reward, weight) in zip(names, pairs, strict=True)]


def _reward_and_weight(item: object, parts: ScriptParts, part: str) -> tuple[object, float | None]:
    reward, weight = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
    if part == "filter_reward_fns" and isinstance(reward, int) and reward in range(len(parts.reward_fns or ())):
        reward, _ = _reward_and_weight((parts.reward_fns or ())[reward], parts, "reward_fns")
    if not (callable(reward) or isinstance(reward, str)) or not isinstance(weight, int | float | None):
        numbers = ", numbers of reward_fns" if part == "filter_reward_fns" else ""
        raise ConfigError(
            f"launch_worker's {part}: {item!r:.80} isn't a reward. Give functions, names{numbers}, or pairs of one and "
            "a weight."
        )
    return reward, None if weight is None else float(weight)


def script_packer_name(packer: object, part: str) -> str:
    """Return the name of a packer that the script gives as `part`."""
    return f"{_own_name(packer)}{EVAL_SUFFIX if part.startswith('val_') else ''}"


def _with_names(things: Sequence[Thing]) -> list[tuple[Thing, str]]:
    """Give each thing a name of its own: `judge`, `judge-2`."""
    used: dict[str, int] = {}
    named = []
    for thing in things:
        name = _own_name(thing)
        used[name] = used.get(name, 0) + 1
        named.append((thing, name if used[name] == 1 else f"{name}-{used[name]}"))
    return named


def _own_name(thing: object) -> str:
    if isinstance(thing, str):
        return thing
    name = getattr(thing, "__name__", None) or type(thing).__name__
    return "function" if name == "<lambda>" else str(name)


def _dataset(given: object) -> Factory:
    """Wrap a dataset, or a function that makes one, as a factory that takes the config's `args`."""
    if not (callable(given) and is_factory(given)):
        return lambda config=None, **args: given  # noqa: ARG005 - `args` are for `setup` to read in the config

    def make(config: Config | None = None, tokenizer: Tokenizer | None = None, **args: object) -> object:
        filled = run_objects(given, config, tokenizer)
        positional = [p for p in parameters(given) if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        # The only argument that it requires is the config, whatever its name.
        if not filled and sum(p.default is p.empty for p in positional) == 1:
            return given(config)
        return given(**filled, **accepted(given, args))

    return make


def _packer(given: object, config: Config) -> Factory:
    """Return a factory of the packer: of a given instance, or by a class or function, which may take the config."""
    if inspect.isclass(given):
        return given
    if hasattr(given, "get_rollout_input") or not callable(given):
        return lambda: given
    return lambda: given(config) if parameters(given) else given()


class FunctionLogger:
    """A `custom_logger_fns` function as a logger."""

    def __init__(self, function: CustomLogger, config: Config, run_dir: Path, steps: int) -> None:  # noqa: ARG002
        self._function = function

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:  # noqa: ARG002 - a logger's signature
        self._function(dict(metrics), step)

    def close(self, summary: Mapping[str, object]) -> None:
        """Do nothing: a function has nothing to close."""
