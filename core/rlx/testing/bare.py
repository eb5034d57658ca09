"""Contract suites for plugins that nobody has described: no examples, no items, no args.

The rule of this part: what fails here is the plugin's fault for certain. What could be a matter of missing args, data,
network or packages is said to be untested, with the reason.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from rlx.datasets.open import make_dataset
from rlx.errors import DatasetError
from rlx.models.plugin import ModelPlugin
from rlx.packers.prompt import prompt_token_ids
from rlx.preflight.describe import options
from rlx.testing.suites.algorithm import check_algorithm
from rlx.testing.suites.contract import ContractError, example_config, told
from rlx.testing.suites.dataset import check_dataset
from rlx.testing.suites.hooks import check_hooks
from rlx.testing.suites.packer import check_packer
from rlx.testing.suites.reward import check_reward
from rlx.testing.tokenizer import CharTokenizer

PROMPTS = ("1+1=", "What is it? ")


@dataclass(frozen=True)
class Found:
    """At most one of the two."""

    broken: str = ""
    """The rules that it breaks."""
    untested: str = ""
    """Why its contract could not be asked for."""


def check_bare(kind: str, target: Any) -> Found:
    """As much of the contract of its kind as can be asked of `target` without knowing what it is for."""
    required = [option.name for option in options(kind, target) if option.required]
    if required:
        return Found(untested=f"it needs args: {', '.join(required)}")
    made = kind in ("rewards", "packers", "algorithms") and inspect.isclass(target)
    if made and (problem := _raised(target)):
        return Found(untested=f"it can't be made without args: {problem}")
    return _SUITES.get(kind, _of_callable)(target)


def _raised(call: Callable[[], Any]) -> str:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - the boundary: a plugin's code ran; it is reported
        return told(error)
    return ""


def _asked(suite: Callable[[], None]) -> Found:
    try:
        suite()
    except ContractError as error:
        return Found(broken=str(error))
    return Found()


def _of_dataset(target: Any) -> Found:
    try:
        make_dataset(target, {}, example_config(), CharTokenizer())
    except DatasetError as error:
        if error.__cause__ is not None:
            return Found(untested=f"it can't be opened here: {told(error)}")
    return _asked(lambda: check_dataset(target))


def _of_packer(target: Any) -> Found:
    def tried() -> None:
        packer, tokenizer = target(), CharTokenizer()
        packer.setup(example_config(), tokenizer)
        for prompt in PROMPTS:
            prompt_token_ids(packer, prompt, tokenizer)

    problem = _raised(tried) if inspect.isclass(target) else ""
    if problem:
        return Found(untested=f"it does not take text as an item: {problem}")
    return _asked(lambda: check_packer(target, items=PROMPTS))


def _of_algorithm(target: Any) -> Found:
    if importlib.util.find_spec("torch") is None:
        return Found(untested="algorithms are tested with torch, which is not installed")
    return _asked(lambda: check_algorithm(target))


def _of_model(target: Any) -> Found:
    if not isinstance(target, ModelPlugin):
        return Found(broken=f"it is a {type(target).__name__}, not an rlx.ModelPlugin")
    return Found(untested="a model is tested with a folder of weights: rlx.testing.check_model_plugin")


def _of_callable(target: Any) -> Found:
    return Found() if callable(target) else Found(broken=f"it is a {type(target).__name__}, which can't be called")


_SUITES: Mapping[str, Callable[[Any], Found]] = MappingProxyType(
    {
        "datasets": _of_dataset,
        "rewards": lambda target: _asked(lambda: check_reward(target)),
        "packers": _of_packer,
        "algorithms": _of_algorithm,
        "models": _of_model,
        "hooks": lambda target: _asked(lambda: check_hooks(target)),
    }
)
