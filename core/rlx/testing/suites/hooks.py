"""The contract suite of hooks plugins: `check_hooks`.

Rule: a plugin is registered as in a run. Its hooks are called only if the author asks for it (`call=True`), because
they may do things that a test must not: write to a tracker, send messages.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from rlx.boot import PluginRecord
from rlx.config.sections.plugins import HooksConfig, PluginsConfig
from rlx.errors import did_you_mean
from rlx.plugins.hooks import HOOKS, Hooks
from rlx.testing.suites.contract import Broken, Raised, attempt, demand, name_of
from rlx.testing.suites.hook_calls import broken_calls

RULES: Mapping[str, str] = MappingProxyType(
    {
        "hooks": "It is a class, a module or an object with functions that are marked with `@rlx.hookimpl`; their "
        "names and arguments are those of hooks.",
        "marked": "A function with the name of a hook has the marker.",
        "call": "A hook can be called with the arguments that it gets in a run.",
        "answer": "A hook that may return an answer returns a valid one, or None.",
        "metrics": "Metrics that it adds are numbers, and their names are text.",
        "summary": "Entries that it adds to the summary can be written as JSON.",
        "state": "After `rlx_restore_state`, `rlx_checkpoint_state` returns the same state.",
        "history": "It changes no tokens, log-probabilities or rewards of a group, and no files of a checkpoint.",
    }
)


def check_hooks(plugin: object, *, args: Mapping[str, object] | None = None, call: bool = False) -> None:
    """Check a hooks plugin. Raises ContractError with every rule of RULES that it breaks.

    args: options of a class, as the config's `args`.
    call: also call each of its hooks once, in the order of a run, with made-up arguments of the right types (an
    `rlx_model_built` gets a small torch module).
    """
    __tracebackhide__ = True

    def broken() -> Iterator[Broken]:
        for name in dir(plugin):
            found = getattr(plugin, name)
            near = did_you_mean(name, HOOKS) if name.startswith("rlx_") and name not in HOOKS else ""
            if near and callable(found) and not hasattr(found, "rlx_impl"):
                seen = f"{name} has no marker, and its name is not that of a hook.{near}"
                yield Broken("marked", seen, "Mark it with @rlx.hookimpl.")
        record = PluginRecord("hooks", name_of(plugin), "", "", name_of(plugin), "")
        section = PluginsConfig(enable=[HooksConfig(name=record.name, args=dict(args or {}))])
        register = partial(Hooks, [(record, plugin)], section)
        hooks = attempt(register)
        if isinstance(hooks, Raised):
            yield Broken("hooks", str(hooks), "Correct the name, the arguments, or the marker.")
        elif call:
            with tempfile.TemporaryDirectory() as folder:
                yield from broken_calls(hooks, record, Path(folder), register)

    demand(f"hooks plugin {name_of(plugin)}", RULES, broken())
