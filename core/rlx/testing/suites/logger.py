"""The contract suite of loggers: `check_logger`.

Rule: a logger is made and called as a run does it, by the code of a run, with a run directory that is thrown away.
"""

from __future__ import annotations

import copy
import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from rlx.config.schema import Config
from rlx.loggers.base import LiveLogger, Logger, RevisingLogger, RunStatus, Sample, SampleLogger
from rlx.testing.stand_ins.config import example_config
from rlx.testing.suites.contract import Broken, Raised, attempt, demand, name_of

RULES: Mapping[str, str] = MappingProxyType(
    {
        "constructor": "A logger is a class; one is made as `cls(config, run_dir, steps)`.",
        "methods": "It has `log(step, metrics, kind)` and `close(summary)`, and may have `status(status)`, "
        "`log_samples(step, samples, kind)` and `went_back(step, evaluated)`.",
        "call": "These can be called as in a run: steps, evaluations, states, then `close` once.",
        "unchanged": "It does not change the metrics or the summary, which other loggers get too.",
        "resume": "A second one in the same run directory, as after a resume, takes steps that the first one has seen.",
    }
)
METHODS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "log": ("step", "metrics", "kind"),
        "close": ("summary",),
        "status": ("status",),
        "log_samples": ("step", "samples", "kind"),
        "went_back": ("step", "evaluated"),
    }
)
OPTIONAL = frozenset({"status", "log_samples", "went_back"})
STEPS = 3
METRICS: Mapping[str, float] = MappingProxyType(
    {"loss": 0.25, "lr": 1e-5, "reward/mean": 0.5, "grad_norm": 1.5, "time/step": 0.1, "tokens/sampled": 128.0}
)
EVAL_METRICS: Mapping[str, float] = MappingProxyType({"accuracy": 0.75, "reward": 0.75, "seconds": 0.5})
SAMPLES = (
    Sample("1+1=", "2", 1.0, {"exact_match": 1.0}, reference="2"),
    Sample("1+1=", "\x1b[31m答案\x00\n", None, {"exact_match": None}),  # a policy may write anything
)
SUMMARY: Mapping[str, object] = MappingProxyType({"status": "done", "steps": STEPS, "error": None, "metrics": {}})


def check_logger(cls: Callable[[Config, Path, int], Logger], *, config: Config | None = None) -> None:
    """Check a logger. Raises ContractError with every rule of RULES that it breaks.

    config: passed to its constructor; default: a config of defaults.
    """
    __tracebackhide__ = True
    demand(f"logger {name_of(cls)}", RULES, _broken(cls, config or example_config()))


def _broken(cls: Callable[[Config, Path, int], Logger], config: Config) -> Iterator[Broken]:
    if missing := list(missing_methods(cls)):
        yield from missing
        return
    with tempfile.TemporaryDirectory() as folder:
        for rule, first in (("call", 0), ("resume", 1)):
            logger = attempt(lambda: cls(config, Path(folder), STEPS))
            if isinstance(logger, Raised):
                yield Broken("constructor", str(logger), "Take the config, the run directory and the number of steps.")
                return
            found = list(_called(logger, rule, first))
            yield from found
            if found:
                return


def missing_methods(cls: object) -> Iterator[Broken]:
    """Yield a finding for each method of the contract that `cls` lacks, or that can't be called as rlx calls it."""
    if not inspect.isclass(cls):
        seen = f"it is a {'function' if inspect.isroutine(cls) else type(cls).__name__}"
        yield Broken("constructor", seen, "Write a class with `log` and `close`, and name the class.")
        return
    for name, parameters in METHODS.items():
        method = getattr(cls, name, None)
        written = f"`def {name}(self, {', '.join(parameters)})`"
        if not callable(method):
            if name not in OPTIONAL:
                yield Broken("methods", f"it has no method `{name}`", f"Write {written}.")
            continue
        try:
            inspect.signature(method).bind("self", *parameters)
        except TypeError as error:
            seen = f"`{name}` can't be called with {', '.join(parameters)}: {error}"
            yield Broken("methods", seen, f"Write {written}.")
        except ValueError:  # a method in C has no signature
            continue


def _called(logger: Logger, rule: str, first: int) -> Iterator[Broken]:
    """Call the logger as in a run from step `first` on. Yield a finding for each method that raises or changes data."""
    for step in range(first, STEPS):
        if isinstance(logger, LiveLogger):
            status = RunStatus("running", step, STEPS, 1.5 * step, "", dict(METRICS) if step else {})
            yield from _call(rule, "status", {"status": status}, logger.status)
        yield from _call_samples(rule, logger, step, "train")
        yield from _call(rule, "log", {"step": step, "metrics": dict(METRICS), "kind": "train"}, logger.log)
    if isinstance(logger, RevisingLogger):
        last = STEPS - 1
        yield from _call(rule, "went_back", {"step": last, "evaluated": [0]}, logger.went_back)
        yield from _call(rule, "log", {"step": last, "metrics": dict(METRICS), "kind": "train"}, logger.log)
    yield from _call_samples(rule, logger, STEPS, "eval")
    yield from _call(rule, "log", {"step": STEPS, "metrics": dict(EVAL_METRICS), "kind": "eval"}, logger.log)
    yield from _call(rule, "close", {"summary": copy.deepcopy(dict(SUMMARY))}, logger.close)


def _call_samples(rule: str, logger: Logger, step: int, kind: str) -> Iterator[Broken]:
    if isinstance(logger, SampleLogger):
        arguments = {"step": step, "samples": list(SAMPLES), "kind": kind}
        yield from _call(rule, "log_samples", arguments, logger.log_samples)


def _call(rule: str, name: str, arguments: Mapping[str, object], method: Callable[..., object]) -> Iterator[Broken]:
    before = copy.deepcopy(dict(arguments))
    answer = attempt(lambda: method(*arguments.values()))
    if isinstance(answer, Raised):
        yield Broken(rule, f"`{name}` with {before}: {answer}", "A logger that raises ends the run.")
    elif dict(arguments) != before:
        yield Broken("unchanged", f"`{name}` changed {before} to {dict(arguments)}", "Work on a copy.")
