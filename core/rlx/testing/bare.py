"""Contract checks of a plugin without any input from its author: no examples, no items, no args.

Rules:

* A finding is certainly the plugin's fault: its shape is wrong, or it returned what no plugin of its kind may return.
* If its own code raises, that may be due to missing args, data, network or packages: it is reported as untested, with
  the reason. "fine" means that its contract was tested.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer

from rlx.datasets.open import make_dataset
from rlx.errors import DatasetError, foreign_frames
from rlx.models.plugin import ModelPlugin
from rlx.packers.prompt import prompt_token_ids
from rlx.preflight.describe import options
from rlx.testing.stand_ins.config import example_config
from rlx.testing.stand_ins.tokenizer import CharTokenizer
from rlx.testing.suites.algorithm import check_algorithm
from rlx.testing.suites.contract import (
    ContractError,
    Raised,
    attempt,
    demand,
    error_with_line,
    name_of,
    root_cause,
    shortened,
)
from rlx.testing.suites.dataset import check_dataset
from rlx.testing.suites.hooks import check_hooks
from rlx.testing.suites.launcher import broken_shape
from rlx.testing.suites.logger import check_logger, missing_methods
from rlx.testing.suites.packer import check_packer
from rlx.testing.suites.reward import RULES as REWARD_RULES
from rlx.testing.suites.reward import examine_reward

PROMPTS = ("1+1=", "What is it? ")
REFERENCE = "42"


@dataclass(frozen=True)
class Found:
    """The result of a check. At most one of the fields is set."""

    broken: str = ""
    """The rules that the plugin breaks."""
    untested: str = ""
    """Why its contract could not be tested."""


def shape_problem(kind: str, target: object) -> str:
    """Return why `target` can't be a plugin of that kind, from a look at it; empty if it can."""
    wanted = {
        "rewards": "a function or a class with __call__",
        "commands": "a typer.Typer or a function",
    }
    if kind in ("packers", "algorithms", "loggers", "launchers") and not inspect.isclass(target):
        return f"it is {_a(target)}, not a class"
    if kind in wanted and not callable(target):
        return f"it is {_a(target)}, not {wanted[kind]}"
    if kind == "rewards" and inspect.isclass(target) and "__call__" not in dir(target):
        return f"its instances can't be called: {target.__qualname__} has no __call__"
    if kind == "models" and not isinstance(target, ModelPlugin):
        return f"it is {_a(target)}, not an rlx.ModelPlugin"
    if inspect.isclass(target) and kind in ("loggers", "launchers"):
        missing = missing_methods(target) if kind == "loggers" else broken_shape(target)
        return "; ".join(one.seen for one in missing)
    return ""


def _a(target: object) -> str:
    name = "function" if inspect.isroutine(target) else type(target).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name} ({shortened(target, 40)})"


def check_bare(kind: str, target: Any) -> Found:
    """Check as much of the contract of its kind as can be tested without knowing the purpose of `target`."""
    if problem := shape_problem(kind, target):
        return Found(broken=problem)
    required = [option.name for option in options(kind, target) if option.required]
    if required:
        return Found(untested=f"it needs args: {', '.join(required)}")
    constructed = kind in ("rewards", "packers", "algorithms") and inspect.isclass(target)
    if constructed and (problem := _problem(target)):
        return Found(untested=f"it can't be made without args: {problem}")
    match kind:
        case "datasets":
            try:
                make_dataset(target, {}, example_config(), CharTokenizer())
            except DatasetError as error:
                if _raised_by_plugin(error):
                    return Found(untested=f"it can't be opened here: {error_with_line(error)}")
            return _result(lambda: check_dataset(target))
        case "rewards":
            return _check_reward(target)
        case "packers":
            return _check_packer(target)
        case "algorithms":
            if importlib.util.find_spec("torch") is None:
                return Found(untested="algorithms are tested with torch, which is not installed")
            return _result(lambda: check_algorithm(target))
        case "models":
            return Found(untested="a model is tested with a folder of weights: rlx.testing.check_model_plugin")
        case "hooks":
            return _result(lambda: check_hooks(target))
        case "loggers":
            found = _result(lambda: check_logger(target))
            # Its own code may need a service's key, or a metric that the made-up ones don't have.
            return Found(untested=f"it can't be called here: {found.broken}") if found.broken else found
        case "launchers":
            return Found(untested="a launcher is tested by starting processes: rlx.testing.check_launcher")
        case "commands":
            return _check_command(target)
    raise ValueError(f"unknown kind {kind!r}")


def _check_reward(target: object) -> Found:
    examined = examine_reward(target)
    if examined.refused_all:  # perhaps for want of a reference answer
        again = examine_reward(target, reference=REFERENCE)
        examined = examined if again.refused_all else again
    if examined.broken:
        return _result(lambda: demand(f"reward {name_of(target)}", REWARD_RULES, examined.broken))
    if examined.refused_all:
        return Found(untested=f"it refused every text: {examined.refused_all}")
    return Found()


def _check_packer(target: Any) -> Found:
    def encode_text() -> None:
        packer, tokenizer = target(), CharTokenizer()
        packer.setup(example_config(), tokenizer)
        for prompt in PROMPTS:
            prompt_token_ids(packer, prompt, tokenizer)

    result = attempt(encode_text)
    if isinstance(result, Raised) and _raised_by_plugin(result.error):
        return Found(untested=f"it does not take text as an item: {_problem(encode_text)}")
    return _result(lambda: check_packer(target, items=PROMPTS))


def _check_command(target: Any) -> Found:
    def build() -> object:
        if isinstance(target, typer.Typer):
            return typer.main.get_command(target)
        app = typer.Typer()
        app.command()(target)
        return typer.main.get_command(app)

    problem = _problem(build)
    return Found(broken=f"typer can't make a command of it: {problem}") if problem else Found()


def _raised_by_plugin(error: BaseException) -> bool:
    """Return whether the plugin's own code raised it; else rlx's code could not use the plugin or its answer."""
    return isinstance(error, SystemExit) or bool(foreign_frames(root_cause(error)))


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
