"""The hooks that a run has enabled: pluggy, with an owner for everything that goes wrong.

* Call order is the order of `[plugins] enable` (pluggy calls the last registered first, so registration is reversed).
* A misspelt hook is an error, and so is a plugin that implements none, or that forgot the marker.
* A hook that raises is a HookError with its plugin's name. Those of `best_effort` are logged and counted instead.
"""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pluggy

from rlx.boot import PluginRecord
from rlx.config.sections.plugins import PluginsConfig
from rlx.errors import ConfigError, HookError, PluginError, RlxError, attribute, did_you_mean
from rlx.plugins import hookspecs
from rlx.plugins.options import make
from rlx.plugins.records import owner
from rlx.plugins.timings import CallTimings, HookFailures

log = logging.getLogger(__name__)

_ADVICE = "Correct the plugin, leave it out of [plugins] enable, or list it in [plugins] best_effort."

HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("rlx_"))
"""Every hook that rlx calls."""


class Implementations:
    """The hook implementations of one plugin, guarded: pluggy registers this in the plugin's place."""


class Hooks:
    """The enabled hooks plugins of one process."""

    def __init__(
        self, plugins: Sequence[tuple[PluginRecord, object]] = (), section: PluginsConfig | None = None
    ) -> None:
        """Make the plugins that are classes from their options, and register all of them.

        section: `[plugins]` of the config. Raises ConfigError if options do not fit, PluginError for other failures.
        """
        section = PluginsConfig() if section is None else section
        self.failures = HookFailures()
        """Of the plugins in `best_effort`."""
        self.costs = CallTimings()
        self._best_effort = frozenset(section.best_effort)
        self._manager = pluggy.PluginManager("rlx")
        self._manager.add_hookspecs(hookspecs)
        options = {hook.name: hook.args for hook in section.hooks}
        made = [(record, _made(record, plugin, options.get(record.name, {}))) for record, plugin in plugins]
        for record, plugin in reversed(made):
            self._register(record, plugin)

    @property
    def relay(self) -> pluggy.HookRelay:
        """Call hooks on this: `relay.rlx_step_end(step=..., metrics=...)`."""
        return self._manager.hook

    def only(self, plugin: str, hook: str) -> pluggy.HookCaller:
        """One hook of one plugin; `plugin` is its name in `[plugins] enable`."""
        others = [other for name, other in self._manager.list_name_plugin() if name != plugin and other is not None]
        return self._manager.subset_hook_caller(hook, others)

    def _register(self, record: PluginRecord, plugin: Any) -> None:
        names = _marked(plugin)
        _check_names(record, plugin, names)
        guarded = Implementations()
        for name in names:
            setattr(guarded, name, self._guard(record, name, getattr(plugin, name)))
        try:
            self._manager.register(guarded, name=record.name)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(f"{owner(record)}: {error}") from error

    def _guard(self, record: PluginRecord, name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
        cost = f"hook/{record.name}/{name}"

        @functools.wraps(hook)
        def guarded(*args: Any) -> Any:
            began = time.perf_counter()
            try:
                with attribute(owner(record), f"its hook {name}", as_=HookError, advice=_ADVICE):
                    return hook(*args)
            except RlxError as error:
                if record.name not in self._best_effort:
                    raise
                self.failures.merge({record.name: 1})
                log.warning("best effort: %s", error)
                return None
            finally:
                self.costs.add(cost, time.perf_counter() - began)

        return guarded


def _made(record: PluginRecord, plugin: object, args: Mapping[str, object]) -> object:
    where = "[plugins] enable, args"
    if inspect.isclass(plugin):
        return make(plugin, args, where=where, owner=owner(record))
    if args:
        raise ConfigError(f"{where}: {owner(record)} is {_kind(plugin)}, not a class: it takes no args.")
    return plugin


def _kind(plugin: object) -> str:
    return "a module" if inspect.ismodule(plugin) else "an object"


def _options(plugin: Any, name: str) -> dict[str, Any] | None:
    """What `@hookimpl` left on a function; None where it is not marked."""
    found = inspect.getattr_static(plugin, name, None)
    options = getattr(getattr(found, "__func__", found), "rlx_impl", None)
    return options if isinstance(options, dict) else None


def _marked(plugin: Any) -> list[str]:
    return [name for name in dir(plugin) if _options(plugin, name) is not None]


def _check_names(record: PluginRecord, plugin: Any, names: Sequence[str]) -> None:
    unmarked = [name for name in HOOKS if callable(getattr(plugin, name, None)) and name not in names]
    if unmarked:
        raise PluginError(
            f"{owner(record)}: {', '.join(unmarked)} lacks the marker `@rlx.hookimpl` and would not be called."
        )
    if not names:
        raise PluginError(
            f"{owner(record)} implements no hook. Mark its functions with `@rlx.hookimpl`: {', '.join(HOOKS)}."
        )
    for name in names:
        _check_one(record, plugin, name)


def _check_one(record: PluginRecord, plugin: Any, name: str) -> None:
    options = _options(plugin, name) or {}
    hook = options.get("specname") or name
    if hook not in HOOKS:
        known = ", ".join(HOOKS)
        raise PluginError(f"{owner(record)}: there is no hook {hook!r}.{did_you_mean(hook, HOOKS)} Hooks: {known}.")
    if options.get("wrapper") or options.get("hookwrapper"):
        raise PluginError(f"{owner(record)}: {name} is a hook wrapper; rlx calls plain hooks only.")
    passed = inspect.signature(getattr(hookspecs, hook)).parameters
    for parameter in inspect.signature(getattr(plugin, name)).parameters.values():
        if _never_passed(parameter, passed):
            raise PluginError(
                f"{owner(record)}: {name} takes {str(parameter)!r} ({parameter.kind.description}), which is never "
                f"passed.{did_you_mean(parameter.name, passed)} Passed are, without defaults: {', '.join(passed)}."
            )


def _never_passed(parameter: inspect.Parameter, passed: Collection[str]) -> bool:
    """Whether its author counts on it in vain: pluggy passes, by position, what has no default, and is silent about
    the rest.
    """
    required = parameter.default is parameter.empty
    if parameter.name in passed:
        by_place = parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        return not (by_place and required)
    return required and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
