"""Contract checks of a plugin without any input from its author: no examples, no items, no args.

Rule: a finding is certainly the plugin's fault. If a failure may be due to missing args, data, network or packages, the
plugin is reported as untested, with the reason.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rlx.datasets.open import make_dataset
from rlx.errors import DatasetError
from rlx.models.plugin import ModelPlugin
from rlx.packers.prompt import prompt_token_ids
from rlx.preflight.describe import options
from rlx.testing.stand_ins.config import example_config
from rlx.testing.stand_ins.tokenizer import CharTokenizer
from rlx.testing.suites.algorithm import check_algorithm
from rlx.testing.suites.contract import ContractError, Raised, attempt, error_with_line
from rlx.testing.suites.dataset import check_dataset
from rlx.testing.suites.hooks import check_hooks
from rlx.testing.suites.packer import check_packer
from rlx.testing.suites.reward import check_reward

PROMPTS = ("1+1=", "What is it? ")


@dataclass(frozen=True)
class Found:
    """The result of a check. At most one of the fields is set."""

    broken: str = ""
    """The rules that the plugin breaks."""
    untested: str = ""
    """Why its contract could not be tested."""


def check_bare(kind: str, target: Any) -> Found:
    """Check as much of the contract of its kind as can be tested without knowing the purpose of `target`."""
    required = [option.name for option in options(kind, target) if option.required]
    if required:
        return Found(untested=f"it needs args: {', '.join(required)}")
    constructed = kind in ("rewards", "packers", "algorithms") and inspect.isclass(target)
    if constructed and (problem := _problem(target)):
        return Found(untested=f"it can't be made without args: {problem}")
    match kind:
        case "datasets":
            return _check_dataset(target)
        case "rewards":
            return _result(lambda: check_reward(target))
        case "packers":
            return _check_packer(target)
        case "algorithms":
            if importlib.util.find_spec("torch") is None:
                return Found(untested="algorithms are tested with torch, which is not installed")
            return _result(lambda: check_algorithm(target))
        case "models":
            if not isinstance(target, ModelPlugin):
                return Found(broken=f"it is a {type(target).__name__}, not an rlx.ModelPlugin")
            return Found(untested="a model is tested with a folder of weights: rlx.testing.check_model_plugin")
        case "hooks":
            return _result(lambda: check_hooks(target))
    return Found() if callable(target) else Found(broken=f"it is a {type(target).__name__}, which can't be called")


def _check_dataset(target: object) -> Found:
    try:
        make_dataset(target, {}, example_config(), CharTokenizer())
    except DatasetError as error:
        if error.__cause__ is not None:
            return Found(untested=f"it can't be opened here: {error_with_line(error)}")
    return _result(lambda: check_dataset(target))


def _check_packer(target: Any) -> Found:
    def encode_text() -> None:
        packer, tokenizer = target(), CharTokenizer()
        packer.setup(example_config(), tokenizer)
        for prompt in PROMPTS:
            prompt_token_ids(packer, prompt, tokenizer)

    if inspect.isclass(target) and (problem := _problem(encode_text)):
        return Found(untested=f"it does not take text as an item: {problem}")
    return _result(lambda: check_packer(target, items=PROMPTS))


def _result(suite: Callable[[], None]) -> Found:
    try:
        suite()
    except ContractError as error:
        return Found(broken=str(error))
    return Found()


def _problem(call: Callable[[], object]) -> str:
    """Return the text of the error that `call` raises; empty if it raises none."""
    result = attempt(call)
    if not isinstance(result, Raised):
        return ""
    if isinstance(result.error, SystemExit):
        raise result.error  # it ends this process, and the probe reports that
    return str(result)
