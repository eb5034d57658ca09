"""The contract suite of hooks plugins: `check_hooks`.

The rule of this part: a plugin is registered as a run registers it, and its hooks are called only where the author asks
for that (`call=True`), as they may do what a test must not: write to a tracker, send messages.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rlx.boot import PluginRecord
from rlx.errors import did_you_mean
from rlx.plugins.hooks import HOOKS, Hooks
from rlx.testing.suites.contract import Broken, demand, name_of, told
from rlx.testing.suites.hook_calls import broken_calls

RULES: Mapping[str, str] = MappingProxyType(
    {
        "hooks": "It is a class, a module or an object with functions that are marked with `@rlx.hookimpl`, named as "
        "hooks are, with arguments that the hooks have.",
        "marked": "A function that is named as hooks are has the marker.",
        "call": "A hook can be called with what a run gives it.",
        "answer": "A hook that is asked for an answer gives one of those that count, or None.",
        "metrics": "What it adds to metrics are numbers, under names of text.",
        "summary": "What it adds to the summary can be written as JSON.",
        "history": "Tokens, log-probabilities and rewards of a group, and the files of a checkpoint, stay as they are.",
    }
)


def check_hooks(plugin: Any, *, call: bool = False) -> None:
    """Raises ContractError, with every rule of RULES that the plugin breaks.

    call: also call each of its hooks once, in the order of a run, with made-up arguments of the right kinds (an
    `rlx_model_built` gets a small torch module).
    """
    __tracebackhide__ = True
    demand(f"hooks plugin {name_of(plugin)}", RULES, _broken(plugin, call))


def _broken(plugin: Any, call: bool) -> Iterator[Broken]:
    yield from _unmarked(plugin)
    record = PluginRecord("hooks", "plugin", "", "", name_of(plugin), "")
    try:
        hooks = Hooks([(record, plugin)])
    except Exception as error:  # noqa: BLE001 - the boundary: a plugin's constructor ran
        yield Broken("hooks", told(error), "Correct the name, the arguments, or the marker.")
        return
    if call:
        with tempfile.TemporaryDirectory() as folder:
            yield from broken_calls(hooks, record, Path(folder))


def _unmarked(plugin: Any) -> Iterator[Broken]:
    """Functions that were meant as hooks, and have neither a hook's name nor the marker."""
    for name in dir(plugin):
        near = did_you_mean(name, HOOKS)
        found = getattr(plugin, name)
        if (
            name.startswith("rlx_")
            and name not in HOOKS
            and near
            and callable(found)
            and not hasattr(found, "rlx_impl")
        ):
            yield Broken("marked", f"{name} has no marker, and is no hook.{near}", "Mark it with @rlx.hookimpl.")
